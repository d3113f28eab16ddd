//! What happened in a world.

/// How often things happened, so that a world without accidents does not pass for a good one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub(super) frames: u64,
    pub(super) sweeps: u64,
    pub(super) raised: u64,
    pub(super) disconnected: u64,
    pub(super) no_traffic: u64,
    pub(super) disk: u64,
    pub(super) stopped: u64,
    pub(super) gateways_silent: u64,
    pub(super) outages: u64,
    pub(super) restarts: u64,
    pub(super) restarts_without_checkpoint: u64,
    pub(super) suspensions: u64,
    pub(super) wall_steps: u64,
    pub(super) refused: u64,
    pub(super) lost: u64,
    pub(super) doubled: u64,
    pub(super) reordered: u64,
    pub(super) reboots: u64,
    pub(super) sensor_clock_steps: u64,
    pub(super) rebindings: u64,
    pub(super) replaced: u64,
    pub(super) stragglers: u64,
    pub(super) delay_max_ms: u64,
}

impl Totals {
    pub fn add(&mut self, other: &Totals) {
        self.frames += other.frames;
        self.sweeps += other.sweeps;
        self.raised += other.raised;
        self.disconnected += other.disconnected;
        self.no_traffic += other.no_traffic;
        self.disk += other.disk;
        self.stopped += other.stopped;
        self.gateways_silent += other.gateways_silent;
        self.outages += other.outages;
        self.restarts += other.restarts;
        self.restarts_without_checkpoint += other.restarts_without_checkpoint;
        self.suspensions += other.suspensions;
        self.wall_steps += other.wall_steps;
        self.refused += other.refused;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.reordered += other.reordered;
        self.reboots += other.reboots;
        self.sensor_clock_steps += other.sensor_clock_steps;
        self.rebindings += other.rebindings;
        self.replaced += other.replaced;
        self.stragglers += other.stragglers;
        self.delay_max_ms = self.delay_max_ms.max(other.delay_max_ms);
    }

    pub fn assert_everything_happened(&self) {
        let happened = [
            ("disconnected", self.disconnected),
            ("no traffic", self.no_traffic),
            ("disk", self.disk),
            ("planned stops", self.stopped),
            ("silent gateways", self.gateways_silent),
            ("site outages", self.outages),
            ("restarts", self.restarts),
            ("restarts without a checkpoint", self.restarts_without_checkpoint),
            ("suspensions", self.suspensions),
            ("wall clock steps", self.wall_steps),
            ("refusals", self.refused),
            ("lost frames", self.lost),
            ("doubled frames", self.doubled),
            ("frames out of order", self.reordered),
            ("reboots", self.reboots),
            ("steps of a sensor's clock", self.sensor_clock_steps),
            ("addresses changed by NAT", self.rebindings),
            ("connections that replaced another", self.replaced),
            ("frames of replaced connections", self.stragglers),
        ];
        for (what, times) in happened {
            assert!(times > 0, "no {what} in this world: {self:?}");
        }
    }
}
