//! The simulated fleet against the real ingest, live state and engine: what was done against what was said.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fleetpulse::health::catalogue::RuleId;
use fleetpulse::health::message::{Subject, Transition, TransitionKind};
use fleetpulse::health::policy::{Policy, PolicyTable};
use fleetpulse::health::sweep::{Context, Engine, Lookup};
use fleetpulse::health::version::VersionTable;
use fleetpulse::identity::{Authority, Keys, Revocations, ServerTls};
use fleetpulse::ingest::{Ingest, IngestConfig, IngestKeys, IngestParts, NoEnrolment, RegisterCheck};
use fleetpulse::live::{Lifecycle, LiveState, PolicyIndex, SensorType, SiteIndex, SlotFacts};
use fleetpulse::sensor::sim::{
    Fleet, FleetConfig, Plan, SETTINGS_GENERATION, Scenario, SensorKind, Standing,
};
use fleetpulse::time::{Clock, MonoNanos, SystemClock};
use fleetpulse::wire::id::{SensorId, SiteId};

use crate::scenario::{PASSING, small};

/// Frames on their way and one sweep, after a fault has ended.
const SETTLE: Duration = Duration::from_secs(3);

struct Sites(Vec<SiteId>);

impl Lookup for Sites {
    fn site(&self, site: SiteIndex) -> Option<SiteId> {
        self.0.get(site.0 as usize).copied()
    }
    fn desired_settings(&self, _: SensorId) -> Option<u64> {
        Some(SETTINGS_GENERATION)
    }
    fn newest_threat_intel(&self) -> Option<&str> {
        None
    }
}

fn facts(kind: SensorKind, standing: Standing, site: usize) -> SlotFacts {
    SlotFacts {
        kind: match kind {
            SensorKind::OtCloud => SensorType::OtCloud,
            SensorKind::EnterpriseIot => SensorType::EnterpriseIot,
        },
        lifecycle: match standing {
            Standing::Active => Lifecycle::Active,
            Standing::PendingActivation => Lifecycle::PendingActivation,
            Standing::PendingReactivation => Lifecycle::PendingReactivation,
        },
        site: SiteIndex(site as u32),
        policy: PolicyIndex(0),
        muted: false,
    }
}

/// Sweeps on a thread until told to stop; returns what was said.
fn engine(
    live: Arc<LiveState>,
    clock: SystemClock,
    sites: Vec<SiteId>,
    stop: Arc<AtomicBool>,
) -> std::thread::JoinHandle<Vec<Transition>> {
    std::thread::spawn(move || {
        let mut engine = Engine::new(Duration::from_secs(1));
        let policies = PolicyTable::new(Policy::demo());
        let (versions, lookup) = (VersionTable::default(), Sites(sites));
        let mut said = Vec::new();
        engine.note_start(clock.mono());
        while !stop.load(Ordering::Relaxed) {
            let now = clock.now();
            let context = Context { now, versions: &versions, lookup: &lookup, revision: 1 };
            engine.sweep(&live, &policies, &context, &mut |transition| {
                said.push(transition);
                Ok(())
            });
            std::thread::sleep(engine.period());
        }
        said
    })
}

/// Plays a scenario and returns everything that was wrong with what the engine said.
async fn play(scenario: &str, sensors: Option<usize>) -> Vec<String> {
    let plan = Plan::new(&Scenario::parse(scenario).unwrap(), sensors).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let clock = SystemClock::start();
    let authority = Arc::new(Authority::open_or_create(folder.path(), clock.unix()).unwrap());
    let keys = Keys::open_or_create(folder.path(), Arc::new(clock)).unwrap();
    let live = Arc::new(LiveState::with_capacity(10_000));
    let mut sites: Vec<(String, SiteId)> = Vec::new();
    for sensor in &plan.sensors {
        let site = sites.iter().position(|(name, _)| *name == sensor.site).unwrap_or_else(|| {
            sites.push((sensor.site.clone(), SiteId::from_number(sites.len() as u64 + 1)));
            sites.len() - 1
        });
        live.insert(sensor.id, facts(sensor.kind, sensor.standing, site)).unwrap();
    }
    for gateway in &plan.gateways {
        let covered = sites.iter().enumerate().filter(|(_, (name, _))| gateway.sites.contains(name));
        let covered: Vec<_> = covered.map(|(place, _)| SiteIndex(place as u32)).collect();
        live.insert_gateway(gateway.id, &covered).unwrap();
    }
    let parts = IngestParts {
        enrol: Arc::new(NoEnrolment),
        live: live.clone(),
        tls: ServerTls::build(&authority, &keys, &["localhost".to_owned()], Arc::new(clock)).unwrap(),
        keys: IngestKeys::from(&*keys),
        check: Arc::new(RegisterCheck::new(
            live.clone(),
            Arc::new(Revocations::open(folder.path()).unwrap()),
        )),
        clock,
        node: 0,
    };
    let ingest = Ingest::start(&IngestConfig::loopback(), &parts).unwrap();
    let issue = {
        let authority = authority.clone();
        move |identity, life| authority.issue(identity, life, clock.unix()).map_err(|error| error.to_string())
    };
    let config = FleetConfig::new(
        ingest.local_addr().to_string(),
        "localhost",
        clock,
        Arc::new(issue),
        plan.sensors.len(),
    );
    let mut fleet = Fleet::start(plan.clone(), config).unwrap();
    let connected = fleet.connected(Duration::from_secs(30)).await;
    assert_eq!(connected, fleet.stats().wanted, "{:?}", fleet.stats());
    let stop = Arc::new(AtomicBool::new(false));
    let ids = sites.iter().map(|(_, id)| *id).collect();
    let engine = engine(live.clone(), clock, ids, stop.clone());
    fleet.play(|_, _| ()).await.unwrap();
    let played = fleet.played().to_vec();
    stop.store(true, Ordering::Relaxed);
    let said = tokio::task::spawn_blocking(move || engine.join().unwrap()).await.unwrap();
    fleet.stop().await;
    ingest.stop();

    let names: HashMap<Subject, String> = plan
        .sensors
        .iter()
        .map(|sensor| (Subject::Sensor(sensor.id), sensor.name.clone()))
        .chain(plan.gateways.iter().map(|gateway| (Subject::Gateway(gateway.id), gateway.name.clone())))
        .chain(sites.iter().map(|(name, id)| (Subject::Site(*id), name.clone())))
        .collect();
    let mut wrong = Vec::new();
    let mut explained = vec![false; said.len()];
    for fault in &played {
        let script = &plan.faults[fault.fault];
        let last = fault.ended.map_or(MonoNanos(u64::MAX), |ended| ended.plus(SETTLE));
        for hit in &script.hits {
            let about = |transition: &Transition| {
                transition.rule.code() == hit.code && names[&transition.subject] == hit.subject
            };
            let until = if hit.required { last } else { MonoNanos(u64::MAX) };
            let mut raised = None;
            for (place, transition) in said.iter().enumerate() {
                let raise = transition.kind == TransitionKind::Raised && about(transition);
                if raise
                    && (transition.at_mono >= fault.started || script.kind.is_standing())
                    && transition.at_mono <= until
                {
                    explained[place] = true;
                    raised = raised.or(Some(transition.at_mono));
                }
            }
            if !hit.required {
                continue;
            }
            let Some(raised) = raised else {
                wrong.push(format!("{}: {} never raised on {}", script.name, hit.code, hit.subject));
                continue;
            };
            let Some(ended) = fault.ended else { continue };
            let cleared = said.iter().find(|transition| {
                transition.kind == TransitionKind::Cleared
                    && about(transition)
                    && transition.at_mono >= raised
            });
            match cleared {
                Some(cleared) if cleared.at_mono >= ended.minus(SETTLE) => {}
                Some(_) => {
                    wrong.push(format!("{}: {} cleared early on {}", script.name, hit.code, hit.subject))
                }
                None => wrong.push(format!("{}: {} never cleared on {}", script.name, hit.code, hit.subject)),
            }
        }
    }
    for (transition, explained) in said.iter().zip(explained) {
        // Sensors are pending until their first heartbeat, and silent until they are connected.
        let start = matches!(transition.rule, RuleId::PendingActivation);
        if transition.kind == TransitionKind::Raised && !explained && !start {
            wrong.push(format!(
                "false: {} on {} {:?}",
                transition.rule.code(),
                names[&transition.subject],
                transition.evidence
            ));
        }
    }
    wrong
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scripted_fleet_is_judged_as_it_was_played() {
    let late = "
        [[fault]]
        kind = 'ntp_not_configured'
        site = 'mine'
        sensors = '2'
        from_s = 14
        until_s = 17
    ";
    let wrong = play(&small("short", 22, &[PASSING, late]), Some(60)).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}
