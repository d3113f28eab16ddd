//! A scenario made concrete: every sensor and gateway with its id, every fault with those it hits.

use std::time::Duration;

use super::kind::{FaultKind, Whom};
use super::scenario::{Scenario, ScenarioError, SensorKind};
use crate::wire::heartbeat::EndpointState;
use crate::wire::id::{GatewayId, SensorId};

/// Sensors of a site that only fills the fleet up.
const FILLER_SITE_SENSORS: usize = 50;

/// How a sensor stands in the register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It reports.
    Active,
    /// Registered, never heard.
    PendingActivation,
    /// Waits for a new activation file.
    PendingReactivation,
}

/// One sensor to register and to simulate.
#[derive(Clone, Debug)]
pub struct PlannedSensor {
    /// Its id.
    pub id: SensorId,
    /// Its name.
    pub name: String,
    /// Name of its site.
    pub site: String,
    /// Its type.
    pub kind: SensorKind,
    /// How it stands in the register; only active ones connect.
    pub standing: Standing,
    /// Place of its gateway in [`Plan::gateways`], if it has one.
    pub gateway: Option<usize>,
    /// Faults that hit it, one bit each, by their place in [`Plan::faults`].
    pub faults: u64,
}

/// One gateway to register and to simulate.
#[derive(Clone, Debug)]
pub struct PlannedGateway {
    /// Its id.
    pub id: GatewayId,
    /// Its name.
    pub name: String,
    /// Names of its sites.
    pub sites: Vec<String>,
}

/// One message that one fault must, or may, raise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// On what kind of thing.
    pub whom: Whom,
    /// The name of the sensor, gateway or site.
    pub subject: String,
    /// Code of the message.
    pub code: String,
    /// Whether it must come.
    pub required: bool,
}

/// One fault with its times.
#[derive(Clone, Debug)]
pub struct PlannedFault {
    /// Its name.
    pub name: String,
    /// What goes wrong.
    pub kind: FaultKind,
    /// Begin, from the start of the run.
    pub from: Duration,
    /// End; `None` = it lasts.
    pub until: Option<Duration>,
    /// Places in [`Plan::sensors`] of those it hits.
    pub sensors: Vec<usize>,
    /// Place of the gateway that it hits.
    pub gateway: Option<usize>,
    /// The messages that follow.
    pub hits: Vec<Hit>,
    pub(super) endpoint: EndpointState,
}

/// A scenario for a number of sensors.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The scenario's name.
    pub name: String,
    /// How long it plays.
    pub duration: Duration,
    /// Heartbeat interval.
    pub interval: Duration,
    /// All sensors.
    pub sensors: Vec<PlannedSensor>,
    /// All gateways.
    pub gateways: Vec<PlannedGateway>,
    /// All faults.
    pub faults: Vec<PlannedFault>,
}

impl Plan {
    /// Makes the plan. The scenario's own sensors come first; healthy sites fill up to `sensors` (`None`: none).
    pub fn new(scenario: &Scenario, sensors: Option<usize>) -> Result<Plan, ScenarioError> {
        let named: usize = scenario.sites.iter().map(|site| site.sensors as usize).sum();
        let wanted = sensors.unwrap_or(named);
        if wanted < named {
            return Err(ScenarioError::TooFew { named, wanted });
        }
        let gateways: Vec<_> = scenario
            .gateways
            .iter()
            .zip(1..)
            .map(|(gateway, number)| PlannedGateway {
                id: GatewayId::from_number(number),
                name: gateway.name.clone(),
                sites: gateway.sites.clone(),
            })
            .collect();
        let mut plan = Plan {
            name: scenario.name.clone(),
            duration: scenario.duration(),
            interval: scenario.interval(),
            sensors: Vec::with_capacity(wanted),
            gateways,
            faults: Vec::new(),
        };
        for site in &scenario.sites {
            for number in 1..=site.sensors {
                plan.add(&site.name, number as usize, site.kind);
            }
        }
        let mut filler = "site".to_owned();
        while scenario.sites.iter().any(|site| site.name.starts_with(&filler)) {
            filler.insert_str(0, "more-");
        }
        for number in 0..wanted - named {
            let site = format!("{filler}-{:03}", number / FILLER_SITE_SENSORS + 1);
            plan.add(&site, number % FILLER_SITE_SENSORS + 1, SensorKind::OtCloud);
        }
        for (place, fault) in scenario.faults.iter().enumerate() {
            plan.add_fault(place, fault);
        }
        Ok(plan)
    }

    fn add(&mut self, site: &str, number: usize, kind: SensorKind) {
        let gateway = self.gateways.iter().position(|gateway| gateway.sites.iter().any(|name| name == site));
        self.sensors.push(PlannedSensor {
            id: SensorId::from_number(self.sensors.len() as u64 + 1),
            name: format!("{site}-{number:03}"),
            site: site.to_owned(),
            kind,
            standing: Standing::Active,
            gateway,
            faults: 0,
        });
    }

    fn add_fault(&mut self, place: usize, fault: &super::scenario::Fault) {
        let site = fault.site.as_deref().unwrap_or_default();
        let of_site: Vec<usize> =
            (0..self.sensors.len()).filter(|place| self.sensors[*place].site == site).collect();
        let numbers = fault.numbers(of_site.len() as u32).unwrap_or_default();
        let chosen = numbers.iter().filter_map(|number| of_site.get(*number as usize - 1).copied());
        let sensors: Vec<usize> =
            if fault.kind == FaultKind::GatewaySilent { Vec::new() } else { chosen.collect() };
        let gateway = self.gateways.iter().position(|gateway| Some(&gateway.name) == fault.gateway.as_ref());
        for sensor in &sensors {
            let sensor = &mut self.sensors[*sensor];
            sensor.faults |= 1 << place;
            match fault.kind {
                FaultKind::PendingActivation => sensor.standing = Standing::PendingActivation,
                FaultKind::PendingReactivation => sensor.standing = Standing::PendingReactivation,
                _ => {}
            }
        }
        let mut hits = Vec::new();
        let mut hit = |whom: Whom, code: &str, required: bool| {
            let subjects: Vec<String> = match whom {
                Whom::Sensor => sensors.iter().map(|place| self.sensors[*place].name.clone()).collect(),
                Whom::Site => vec![site.to_owned()],
                Whom::Gateway => gateway.map(|place| self.gateways[place].name.clone()).into_iter().collect(),
            };
            hits.extend(subjects.into_iter().map(|subject| Hit {
                whom,
                subject,
                code: code.to_owned(),
                required,
            }));
        };
        match &fault.expect {
            Some(codes) => codes.iter().for_each(|code| hit(Whom::Sensor, code, true)),
            None => fault.kind.expected().iter().for_each(|(whom, code)| hit(*whom, code, true)),
        }
        fault.kind.tolerated().iter().for_each(|(whom, code)| hit(*whom, code, false));
        fault.also.iter().for_each(|code| hit(Whom::Sensor, code, false));
        let seconds = |at: f64| Duration::from_secs_f64(at.max(0.0));
        self.faults.push(PlannedFault {
            name: fault.title().to_owned(),
            kind: fault.kind,
            from: seconds(fault.from_s.unwrap_or(0.0)),
            until: fault.until_s.map(seconds),
            sensors,
            gateway,
            hits,
            endpoint: fault.endpoint_state().unwrap_or(EndpointState::General),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::sim::DEMO;

    #[test]
    fn the_demo_is_planned_for_any_fleet_that_holds_it() {
        let scenario = Scenario::parse(DEMO).unwrap();
        let small = Plan::new(&scenario, None).unwrap();
        let large = Plan::new(&scenario, Some(1_000)).unwrap();
        assert_eq!(large.sensors.len(), 1_000);
        assert!(large.sensors[small.sensors.len()..].iter().all(|sensor| sensor.faults == 0));
        let error = Plan::new(&scenario, Some(3)).unwrap_err().to_string();
        assert!(error.contains(&small.sensors.len().to_string()), "{error}");
        let outage = small.faults.iter().find(|fault| fault.kind == FaultKind::SiteOutage).unwrap();
        assert_eq!(outage.hits.iter().filter(|hit| hit.whom == Whom::Site).count(), 1);
        let required = outage.hits.iter().filter(|hit| hit.whom == Whom::Sensor && hit.required).count();
        assert_eq!(required, outage.sensors.len());
        let silent = small.faults.iter().find(|fault| fault.kind == FaultKind::GatewaySilent).unwrap();
        assert_eq!(silent.hits.len(), 1);
    }

    #[test]
    fn healthy_sites_are_none_of_the_scenarios() {
        let text =
            "name = 'x'\nduration_s = 60\ninterval_ms = 1000\n[[site]]\nname = 'site-001'\nsensors = 1\n";
        let plan = Plan::new(&Scenario::parse(text).unwrap(), Some(3)).unwrap();
        let sites: Vec<_> = plan.sensors.iter().map(|sensor| sensor.site.as_str()).collect();
        assert_eq!(sites, ["site-001", "more-site-001", "more-site-001"]);
    }

    #[test]
    fn in_the_demo_no_sensor_has_two_faults() {
        let plan = Plan::new(&Scenario::parse(DEMO).unwrap(), None).unwrap();
        for sensor in &plan.sensors {
            assert!(sensor.faults.count_ones() <= 1, "{}", sensor.name);
        }
    }
}
