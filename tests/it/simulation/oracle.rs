//! The judge that must agree. It keeps the last news of each sensor in plain structs, asks every rule anew
//! every second, and knows nothing of slots, bits, deadlines, queues or hysteresis maps.

/// Policy of the simulated world, in milliseconds.
pub const SILENCE: u64 = 40_000;
pub const RAISE: u64 = 2_000;
pub const INSTALL_GRACE: u64 = 200_000;
pub const NO_TRAFFIC: u64 = 60_000;
pub const GATEWAY: u64 = 15_000;
pub const DISK: u16 = 900;
pub const DISK_MARGIN: u16 = 50;
pub const DISK_HOLD: u64 = 3_000;

/// What a heartbeat said, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub struct News {
    pub boot: u64,
    pub sequence: u64,
    pub time: u64,
    pub rx: u64,
    pub disk: u16,
    pub installing: bool,
    pub goodbye: bool,
}

/// What was heard of a sensor.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    last: Option<News>,
    since_start: bool,
    traffic: u64,
    grew: bool,
    /// Growth up to here is not told from the sensor's start.
    fresh_until: u64,
    installing_since: u64,
    disk_wait: u64,
    disk_waiting: bool,
    /// Whether the disk message was active, as of a checkpoint.
    disk_was: bool,
}

/// Messages that should be active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Should {
    pub pending: bool,
    pub stopped: bool,
    pub disconnected: bool,
    pub no_traffic: bool,
    pub disk: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Sensor {
    pub heard: Heard,
    pub should: Should,
    pub armed: u64,
}

/// The gateway of a sensor, as the judge sees it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gateway {
    pub seen: Option<u64>,
    pub silent: bool,
    pub resumed: u64,
}

impl Gateway {
    pub fn judge(&mut self, now: u64, doubt_end: u64) {
        let Some(seen) = self.seen else { return };
        if self.silent {
            if seen + GATEWAY > now {
                self.silent = false;
                self.resumed = now;
            }
        } else if seen.max(doubt_end) + GATEWAY <= now {
            self.silent = true;
        }
    }
}

impl Sensor {
    /// A delivered frame.
    pub fn hear(&mut self, news: News) {
        let heard = &mut self.heard;
        let before = heard.last;
        // Last-seen never goes back: what came before may have waited for a suspended server.
        let news = News { time: news.time.max(before.map_or(0, |last| last.time)), ..news };
        if before.is_some_and(|last| (news.boot, news.sequence) <= (last.boot, last.sequence)) {
            return;
        }
        match before {
            Some(last) if last.boot == news.boot => {
                if news.rx > last.rx {
                    heard.traffic = news.time;
                    heard.grew = news.time > heard.fresh_until;
                }
            }
            _ => {
                heard.traffic = news.time;
                heard.grew = false;
                // The time of a restart is kept to a quarter of a second.
                let quantum = if before.is_some() { 250 } else { 1 };
                heard.fresh_until = news.time / quantum * quantum + if quantum == 1 { 0 } else { quantum };
            }
        }
        if before.is_none_or(|last| last.installing != news.installing) {
            heard.installing_since = news.time;
        }
        heard.last = Some(news);
        heard.since_start = true;
    }

    /// What a checkpoint keeps.
    pub fn checkpoint(&self) -> Heard {
        Heard { disk_was: self.should.disk, ..self.heard.clone() }
    }

    /// The server starts again with what a checkpoint says, or with nothing.
    pub fn restart(&mut self, heard: Option<&Heard>, journalled: Should) {
        self.heard = heard.cloned().unwrap_or_default();
        self.heard.since_start = false;
        self.heard.disk_waiting = false;
        if self.heard.disk_was != journalled.disk {
            self.heard.disk_wait = 0;
        }
        self.should = journalled;
        self.armed = 0;
    }

    /// One second has passed.
    pub fn judge(&mut self, now: u64, step: u64, active: bool, doubt_end: u64, gateway: Option<&Gateway>) {
        if !active {
            self.should = Should { pending: true, ..Should::default() };
            self.heard.disk_waiting = false;
            self.heard.disk_wait = 0;
            return;
        }
        self.should.pending = false;
        let cut_off = gateway.is_some_and(|gateway| gateway.silent);
        let trusted = doubt_end.max(self.armed).max(gateway.map_or(0, |gateway| gateway.resumed));
        let last = self.heard.last;
        let values = last.filter(|_| self.heard.since_start && !cut_off);

        if let Some(news) = values {
            self.should.stopped = news.goodbye;
        }
        self.judge_silence(now, trusted, cut_off);
        let frozen = self.should.stopped || self.should.disconnected;
        let Some(news) = values.filter(|_| !frozen) else {
            self.freeze_disk(step);
            return;
        };
        self.judge_traffic(now, trusted, news);
        self.judge_disk(step, news);
    }

    fn judge_silence(&mut self, now: u64, trusted: u64, cut_off: bool) {
        if self.should.stopped {
            self.should.disconnected = false;
            return;
        }
        if cut_off {
            return;
        }
        let grace = match self.heard.last {
            Some(news) if news.installing => self.heard.installing_since + INSTALL_GRACE,
            _ => 0,
        };
        let last = self.heard.last.map_or(0, |news| news.time);
        if self.should.disconnected {
            let heard_again = self.heard.since_start && (last + SILENCE).max(grace) > now;
            self.should.disconnected = !heard_again;
        } else {
            self.should.disconnected = (last.max(trusted) + SILENCE).max(grace) + RAISE <= now;
        }
    }

    fn judge_traffic(&mut self, now: u64, trusted: u64, news: News) {
        let heard = &self.heard;
        if self.should.no_traffic {
            if heard.grew && heard.traffic + NO_TRAFFIC > now {
                self.should.no_traffic = false;
            }
        } else {
            self.should.no_traffic =
                news.time > heard.traffic && heard.traffic.max(trusted) + NO_TRAFFIC <= now;
        }
    }

    fn judge_disk(&mut self, step: u64, news: News) {
        let limit = if self.should.disk { DISK - DISK_MARGIN } else { DISK };
        let differs = (news.disk > limit) != self.should.disk;
        let heard = &mut self.heard;
        if !differs {
            heard.disk_waiting = false;
            heard.disk_wait = 0;
            return;
        }
        if heard.disk_waiting {
            heard.disk_wait += step;
        } else {
            heard.disk_waiting = true;
        }
        if heard.disk_wait >= DISK_HOLD {
            self.should.disk = !self.should.disk;
            heard.disk_waiting = false;
            heard.disk_wait = 0;
        }
    }

    /// What can't be judged stands still: the time up to now counts, the time from now does not.
    fn freeze_disk(&mut self, step: u64) {
        if self.heard.disk_waiting {
            self.heard.disk_wait += step;
            self.heard.disk_waiting = false;
        }
    }
}
