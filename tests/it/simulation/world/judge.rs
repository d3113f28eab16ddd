//! Oracle and engine side by side, after every sweep.

use fleetpulse::health::{EvidenceValue, RuleId, Subject, rules_of};
use fleetpulse::wire::id::{GatewayId, SiteId};

use super::{JUDGED, Run, SECOND, oracle};

impl Run {
    pub(super) fn judge(&mut self) {
        let now = self.now;
        let first = self.last_sweep == 0;
        let step = now - if first { self.server.started } else { self.last_sweep };
        let dead = now <= self.dead_listener_until;
        let dead_before = self.last_sweep != 0 && self.last_sweep <= self.dead_listener_until;
        let stepped = std::mem::take(&mut self.wall_step).abs() > 1_500 && self.last_sweep != 0;
        if step > 2 * SECOND || dead || dead_before || stepped {
            self.doubt_end = now;
        }
        self.last_sweep = now;
        for site in 0..self.sites_out.len() {
            if Run::has_gateway(site) {
                let before = self.gateway_judges[site].silent;
                self.gateway_judges[site].judge(now, self.doubt_end);
                self.totals.gateways_silent += u64::from(self.gateway_judges[site].silent && !before);
            }
        }
        let mut expected = vec![(0_u32, 0_u32); self.sites_out.len()];
        for number in 0..self.sensors.len() {
            let site = self.site_of(number);
            let gateway = Run::has_gateway(site).then(|| self.gateway_judges[site]);
            let active = self.sensors[number].activation <= now;
            let judge = &mut self.judges[number];
            if judge.armed == u64::MAX {
                judge.armed = if first { 0 } else { now };
            }
            let before = judge.should;
            judge.judge(now, step, active, self.doubt_end, gateway.as_ref());
            let should = judge.should;
            self.totals.disconnected += u64::from(should.disconnected && !before.disconnected);
            self.totals.no_traffic += u64::from(should.no_traffic && !before.no_traffic);
            self.totals.disk += u64::from(should.disk && !before.disk);
            self.totals.stopped += u64::from(should.stopped && !before.stopped);
            if active && !should.stopped && gateway.is_none_or(|gateway| !gateway.silent) {
                expected[site].0 += 1;
                expected[site].1 += u32::from(should.disconnected);
            }
            self.compare(number, should);
        }
        for (site, (expected, silent)) in expected.into_iter().enumerate() {
            let out = &mut self.sites_out[site];
            let before = *out;
            *out = if *out {
                silent > 0 && f64::from(silent) >= 0.7 * f64::from(expected)
            } else {
                silent >= 3 && f64::from(silent) >= 0.8 * f64::from(expected)
            };
            self.totals.outages += u64::from(*out && !before);
            let subject = Subject::Site(SiteId::from_number(site as u64));
            let message = self.server.engine.active_message(subject, RuleId::SiteOutage);
            assert_eq!(
                message.is_some(),
                *out,
                "{now} ms: site {site} has {silent} of {expected} silent: {message:?}"
            );
            if let Some(message) = message {
                assert_eq!(message.evidence[0].value, EvidenceValue::Integer(i64::from(silent)));
            }
            let subject = Subject::Gateway(GatewayId::from_number(site as u64 + 1));
            let message = self.server.engine.active_message(subject, RuleId::GatewaySilent);
            let judge = &self.gateway_judges[site];
            assert_eq!(message.is_some(), judge.silent, "{now} ms: gateway {site}: {judge:?} {message:?}");
        }
    }

    fn compare(&self, number: usize, should: oracle::Should) {
        let verdict = self.server.live.verdict(self.server.handles[number].index);
        let mut bits = 0;
        for (rule, holds) in [
            (RuleId::PendingActivation, should.pending),
            (RuleId::PlannedStop, should.stopped),
            (RuleId::Disconnected, should.disconnected),
            (RuleId::NoTraffic, should.no_traffic),
            (RuleId::DiskAlmostFull, should.disk),
        ] {
            bits |= if holds { rule.bit() } else { 0 };
        }
        let codes = |bits| rules_of(bits).map(RuleId::code).collect::<Vec<_>>();
        assert!(
            verdict.active & JUDGED == bits,
            "{} ms, sensor {number}: the engine says {:?}, the oracle {:?}\n{:?}\n{:?}\n{:?}",
            self.now,
            codes(verdict.active & JUDGED),
            codes(bits),
            self.judges[number],
            self.sensors[number],
            self.server.engine.doubt(),
        );
        let mut others = verdict.active & !JUDGED;
        if self.sensors[number].clock_touched {
            others &= !RuleId::ClockDrift.bit();
        }
        // Restarts come in rows here, and lossy links are lossy: both are judged by the rules' own tests.
        others &= !(RuleId::RestartLoop.bit() | RuleId::UnstableLink.bit());
        assert!(others == 0, "{} ms, sensor {number}: nobody did {:?}", self.now, codes(others));
    }
}
