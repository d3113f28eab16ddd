//! What rules read of a sensor, from either of two places: a [`Snapshot`], or the slot itself.
//!
//! A snapshot copies a whole slot and decodes it, which is right for a page and dear for the sweep: of the sensors
//! that it looks at every second nearly all are well, and of those it needs some thirty words once. A [`Glance`]
//! reads these words where they are. The predicates do not see the difference, since both are [`Vitals`].

use std::mem::offset_of;
use std::sync::atomic::{AtomicU64, Ordering};

use super::slab::SlotFlags;
use super::snapshot::{clock_offset, drop_ratio, not_after, ring};
use super::state::gateway_of;
use super::types::*;
use super::words::{self, WORDS, floats, halves};
use crate::time::{MonoNanos, UnixMillis};
use crate::wire::heartbeat::{ArchivedHeartbeat, DISKS_MAX, ENDPOINTS_MAX, TI_VERSION_BYTES, VERSION_BYTES};

/// A slot while it is being read, of a sensor that was heard at least once. What it says counts only if no writer
/// came between, which [`super::LiveState::glance`] finds out at the end; until then two words may be of two moments.
#[derive(Debug)]
pub struct Glance<'s> {
    pub(super) words: &'s [AtomicU64; WORDS],
    pub(super) last_heartbeat: u64,
    pub(super) flags: SlotFlags,
    pub(super) facts: SlotFacts,
    pub(super) wall: Option<i64>,
}

impl Glance<'_> {
    #[inline]
    fn word(&self, word: usize) -> u64 {
        self.words[word].load(Ordering::Relaxed)
    }

    /// The number at this byte of a heartbeat, in the low bits.
    #[inline]
    fn number_at(&self, offset: usize) -> u64 {
        self.word(words::body_word(offset)) >> (offset % 8 * 8)
    }

    #[inline]
    fn bytes_at<const N: usize>(&self, offset: usize) -> [u8; N] {
        let mut bytes = [0; N];
        for (place, part) in bytes.chunks_exact_mut(8).enumerate() {
            part.copy_from_slice(&self.number_at(offset + place * 8).to_le_bytes());
        }
        bytes
    }

    /// Says whether it reports this version, word by word.
    #[inline]
    pub fn version_is(&self, text: &[u8; VERSION_BYTES]) -> bool {
        const OFFSET: usize = offset_of!(ArchivedHeartbeat, version);
        let mut difference = 0;
        for (place, part) in text.chunks_exact(8).enumerate() {
            let mut word = [0; 8];
            word.copy_from_slice(part);
            difference |= u64::from_le_bytes(word) ^ self.number_at(OFFSET + place * 8);
        }
        difference == 0
    }

    #[inline]
    fn mark(&self, mark: u64) -> bool {
        self.word(words::MISC) & mark != 0
    }
}

/// The trait and both its implementations, field by field.
macro_rules! vitals {
    (
        numbers { $($(#[$number_doc:meta])* $number:ident: $number_type:ty,)+ }
        texts { $($(#[$text_doc:meta])* $text:ident: $bytes:expr,)+ }
        disks { $(#[$disk_doc:meta])* $disk:ident: $disk_type:ty }
        derived { $($(#[$doc:meta])* $field:ident: $type:ty = |$glance:ident| $read:expr,)+ }
    ) => {
        /// What rules read of a sensor. Names and meanings are those of [`Snapshot`] and of its heartbeat.
        pub trait Vitals {
            $($(#[$number_doc])* fn $number(&self) -> $number_type;)+
            $($(#[$text_doc])* fn $text(&self) -> [u8; $bytes];)+
            $(#[$disk_doc])*
            fn $disk(&self) -> $disk_type;
            $($(#[$doc])* fn $field(&self) -> $type;)+
        }

        impl Vitals for Snapshot {
            $(#[inline] fn $number(&self) -> $number_type { self.heartbeat.$number })+
            $(#[inline] fn $text(&self) -> [u8; $bytes] { self.heartbeat.$text })+
            #[inline]
            fn $disk(&self) -> $disk_type { self.heartbeat.$disk }
            $(#[inline] fn $field(&self) -> $type { self.$field })+
        }

        impl Vitals for Glance<'_> {
            $(#[inline] fn $number(&self) -> $number_type {
                const OFFSET: usize = offset_of!(ArchivedHeartbeat, $number);
                const { assert!(OFFSET % 8 + size_of::<$number_type>() <= 8) };
                self.number_at(OFFSET) as $number_type
            })+
            $(#[inline] fn $text(&self) -> [u8; $bytes] {
                const OFFSET: usize = offset_of!(ArchivedHeartbeat, $text);
                const { assert!(OFFSET % 8 == 0 && $bytes % 8 == 0) };
                self.bytes_at(OFFSET)
            })+
            #[inline]
            fn $disk(&self) -> $disk_type {
                const OFFSET: usize = offset_of!(ArchivedHeartbeat, $disk);
                const { assert!(OFFSET % 2 == 0) };
                std::array::from_fn(|place| self.number_at(OFFSET + place * 2) as u16)
            }
            $(#[inline] fn $field(&self) -> $type { let $glance = self; $read })+
        }

        /// Every field, read and printed, to compare two sources.
        #[cfg(test)]
        fn printed(sensor: &impl Vitals) -> Vec<(&'static str, String)> {
            vec![
                $((stringify!($number), format!("{:?}", sensor.$number())),)+
                $((stringify!($text), format!("{:?}", sensor.$text())),)+
                (stringify!($disk), format!("{:?}", sensor.$disk())),
                $((stringify!($field), format!("{:?}", sensor.$field())),)+
            ]
        }
    };
}

vitals! {
    numbers {
        /// Heartbeat interval in milliseconds.
        interval_ms: u32,
        /// `FLAG_*` bits.
        flags: u32,
        /// Milliseconds since the sensor's software started.
        uptime_ms: u64,
        /// Hardware profile.
        profile: u8,
        /// Update stage.
        update_stage: u8,
        /// Threat-intelligence state.
        ti_status: u8,
        /// Result of the last backup.
        backup_result: u8,
        /// Time synchronisation.
        ntp_state: u8,
        /// Directory servers that are configured.
        directory_configured: u8,
        /// Directory servers that answered.
        directory_reachable: u8,
        /// Monitored interfaces.
        interfaces_total: u16,
        /// Self-tests that exist.
        self_test_ran: u32,
        /// Self-tests that failed.
        self_test_failed: u32,
        /// Seconds since the self-tests ran.
        self_test_age_s: u32,
        /// Seconds since the last backup ended.
        backup_age_s: u32,
        /// Monitored devices.
        devices: u32,
        /// Smoothed round-trip time in microseconds.
        rtt_us: u32,
        /// Generation of the settings in use.
        settings_generation: u64,
    }
    texts {
        /// Software version.
        version: VERSION_BYTES,
        /// Version that the update leads to.
        update_target: VERSION_BYTES,
        /// Threat-intelligence version.
        ti_version: TI_VERSION_BYTES,
        /// Cloud endpoints.
        endpoint_states: ENDPOINTS_MAX,
    }
    disks {
        /// Fill of each partition, per mille.
        disk_permille: [u16; DISKS_MAX]
    }
    derived {
        /// What the register declares.
        facts: SlotFacts = |slot| slot.facts,
        /// Time of the newest heartbeat.
        last_heartbeat: MonoNanos = |slot| MonoNanos(slot.last_heartbeat),
        /// Time of the first heartbeat ever.
        first_heartbeat: MonoNanos = |slot| MonoNanos(slot.word(words::FIRST)),
        /// When the monitored traffic counters last grew.
        last_traffic: MonoNanos = |slot| MonoNanos(slot.word(words::LAST_TRAFFIC)),
        /// When the update stage last changed.
        update_stage_since: MonoNanos = |slot| MonoNanos(slot.word(words::STAGE_SINCE)),
        /// A heartbeat came in since this process started.
        heard_since_start: bool = |slot| slot.mark(words::MARK_HEARD),
        /// The newest heartbeat announced a planned stop.
        goodbye: bool = |slot| slot.flags.has(SlotFlags::GOODBYE),
        /// The gateway that brought the newest heartbeat.
        via_gateway: Option<GatewayIndex> = |slot| gateway_of(slot.word(words::GATEWAY_CERT)),
        /// End of its certificate.
        cert_not_after: Option<UnixMillis> = |slot| not_after(slot.word(words::GATEWAY_CERT)),
        /// Starts after the first one seen.
        restarts: u32 = |slot| slot.word(words::MISC) as u32,
        /// When they were.
        recent_restarts: Recent<RECENT_STARTS> = |slot| ring(words::RESTART_RING, |word| slot.word(word)),
        /// The newest boot was running while the one before still reported.
        boots_overlap: bool = |slot| slot.mark(words::MARK_OVERLAP),
        /// Connections after the first one.
        reconnects: u32 = |slot| halves(slot.word(words::RECONNECTS_REPLACED)).0,
        /// When they were.
        recent_reconnects: Recent<RECENT_STARTS> = |slot| ring(words::RECONNECT_RING, |word| slot.word(word)),
        /// Connections that another one pushed out.
        replaced: u32 = |slot| halves(slot.word(words::RECONNECTS_REPLACED)).1,
        /// When they were.
        recent_replaced: Recent<RECENT_REPLACED> = |slot| ring(words::REPLACED_RING, |word| slot.word(word)),
        /// Bit n: the heartbeat n before the newest came in.
        window: u64 = |slot| slot.word(words::WINDOW),
        /// Valid bits of the window.
        window_expected: u32 = |slot| (slot.word(words::MISC) >> 32) as u32 & 0xff,
        /// Server's clock minus sensor's clock in milliseconds.
        clock_offset_ms: i64 = |slot| {
            clock_offset(slot.word(words::OFFSET), slot.word(words::OFFSET_BEFORE), slot.wall)
        },
        /// Captured bytes a second.
        rx_bytes_per_s: f32 = |slot| {
            if slot.mark(words::MARK_RATES) { floats(slot.word(words::RATES)).0 } else { f32::NAN }
        },
        /// Share of packets that capture lost.
        drop_ratio: f32 = |slot| {
            let (packets, drops) = (floats(slot.word(words::RATES)).1, floats(slot.word(words::DROPS_JITTER)).0);
            if slot.mark(words::MARK_RATES) { drop_ratio(packets, drops) } else { f32::NAN }
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::{Bench, OTHER, at};
    use super::*;
    use crate::wire::heartbeat::{FLAG_GOODBYE, Heartbeat, inline};

    /// What a glance says, field by field.
    fn glanced(bench: &Bench) -> Option<Vec<(&'static str, String)>> {
        bench.live.glance(bench.handle.index, |generation, sensor| {
            assert_eq!(generation, bench.handle.generation);
            printed(sensor)
        })
    }

    /// A heartbeat in which no two fields are alike, other ones each time.
    fn odd(bench: &Bench, number: u64) -> Heartbeat {
        let at_least = |least: u64| least + number;
        Heartbeat {
            boot_id: 1 + number / 5,
            interval_ms: at_least(1_001) as u32,
            flags: if number.is_multiple_of(3) { FLAG_GOODBYE } else { 0 } | 8,
            version: inline(&format!("26.{number}.7-with-a-long-suffix")),
            profile: at_least(1) as u8 % 8,
            update_stage: (number / 3) as u8 % 6,
            update_percent: 77,
            ti_status: at_least(3) as u8 % 4,
            backup_result: at_least(1) as u8 % 4,
            ntp_state: at_least(2) as u8 % 4,
            directory_configured: 9,
            directory_reachable: 5,
            endpoint_states: [1, 2, 3, 4, 5, 4, 3, number as u8 % 3],
            update_error: 11,
            interfaces_total: 12,
            interfaces_up: 10,
            interfaces_with_traffic: 8,
            update_target: inline(&format!("27.{number}")),
            rx_packets: 1_000 * (number / 2),
            rx_bytes: 700_000 * number,
            rx_dropped: 3 * number,
            self_test_ran: 0xf0f0 | number as u32,
            self_test_failed: 0x0f00_0f0f,
            self_test_age_s: at_least(13) as u32,
            backup_age_s: at_least(14_000) as u32,
            ti_version: inline("2026-11-24"),
            devices: at_least(15_000) as u32,
            alerts: 16,
            cpu_permille: 170,
            memory_permille: 180,
            disk_permille: [190, 200 + number as u16, 210, 220],
            temperature_decicelsius: 23,
            rtt_us: at_least(24_000) as u32,
            send_failures: 25,
            reconnects: 26,
            trust_generation: 27,
            settings_generation: at_least(28),
            ..bench.beat(1 + number % 5)
        }
    }

    #[test]
    fn a_glance_says_what_a_snapshot_says() {
        let mut bench = Bench::new();
        bench.live.set_wall(crate::time::Now { mono: at(0), unix: UnixMillis(1_795_478_400_000) });
        let mut apart = false;
        for number in 0..40 {
            let now = at(0).plus(Duration::from_secs(10 * number));
            if number % 7 == 0 {
                let epoch = bench
                    .live
                    .take(bench.handle, OTHER, UnixMillis(7_000_000), now)
                    .expect("registered")
                    .epoch;
                bench.writer = Writer::Direct { epoch };
            }
            let seen = bench.send(&odd(&bench, number), 0, now);
            assert_eq!(seen, Observed::Current, "heartbeat {number}");
            let snapshot = bench.see();
            assert_eq!(glanced(&bench), Some(printed(&snapshot)), "heartbeat {number}");
            let instants = [
                snapshot.first_heartbeat,
                snapshot.update_stage_since,
                snapshot.last_traffic,
                snapshot.last_heartbeat,
            ];
            apart |= instants.is_sorted_by(|a, b| a < b);
        }
        assert!(apart, "no two instants are always the same one");
        let last = bench.see();
        assert!(last.restarts > 0 && last.reconnects > 0 && last.replaced > 0 && last.drop_ratio > 0.0);
    }

    #[test]
    fn a_glance_at_nobody_or_at_one_never_heard_says_nothing() {
        let bench = Bench::new();
        assert_eq!(glanced(&bench), None, "never heard");
        bench.send(&bench.beat(1), 0, at(1));
        assert!(glanced(&bench).is_some());
        bench.live.remove(bench.id).expect("registered");
        assert_eq!(glanced(&bench), None, "removed");
    }
}
