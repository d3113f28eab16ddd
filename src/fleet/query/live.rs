//! Live state as a search reads it: columns where they decide, and of the slot only what is asked for.

use super::{Readings, Standing};
use crate::health::{OverallState, RuleId};
use crate::live::{LiveState, SlotFlags, SlotIndex, Vitals};
use crate::wire::heartbeat::{TI_VERSION_BYTES, TiStatus, VERSION_BYTES};

impl Readings for LiveState {
    #[inline]
    fn standing(&self, slot: SlotIndex) -> Standing {
        let verdict = self.verdict(slot);
        let (last, state) = self.head(slot);
        let flags = state.flags;
        let by_gateway = flags.has(SlotFlags::VIA_GATEWAY)
            && flags.has(SlotFlags::HEARD)
            && verdict.active & RuleId::Disconnected.bit() == 0;
        Standing {
            overall: OverallState::from_number(verdict.overall),
            active: verdict.active,
            connected: flags.has(SlotFlags::CONNECTED) || by_gateway,
            muted: flags.has(SlotFlags::MUTED),
            last,
        }
    }

    #[inline]
    fn version(&self, slot: SlotIndex) -> [u8; VERSION_BYTES] {
        self.glance(slot, |_, sensor| sensor.version()).unwrap_or_default()
    }

    #[inline]
    fn threat_intel(&self, slot: SlotIndex) -> ([u8; TI_VERSION_BYTES], TiStatus) {
        let seen = self.glance(slot, |_, sensor| (sensor.ti_version(), sensor.ti_status()));
        let (version, status) = seen.unwrap_or_default();
        (version, TiStatus::from_wire(status).unwrap_or(TiStatus::Unknown))
    }
}
