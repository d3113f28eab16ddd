//! Lists of subscriptions, sites, zones and gateways.

use super::world::{World, pages, text};

#[test]
fn places_are_listed_by_name_with_their_sensors_counted() {
    let world = World::new(60);
    for limit in [1, 4, 100] {
        let sites = pages(&world.rig, "/api/v1/sites?", limit);
        let names: Vec<&str> = sites.iter().map(|site| text(site, "/name")).collect();
        let all = ["Enterprise network", "Site 0", "Site 1", "Site 2", "Site 3", "Site 4", "Site 5"];
        assert_eq!(names, all);
        let back = pages(&world.rig, "/api/v1/sites?sort=-name&", limit);
        assert!(
            names.iter().rev().eq(back.iter().map(|site| text(site, "/name")).collect::<Vec<_>>().iter())
        );
        let zones = pages(&world.rig, "/api/v1/zones?q=LINE%20b&", limit);
        assert_eq!(zones.len(), 6, "one in each site, whatever the case");
        assert!(zones.iter().all(|zone| text(zone, "/name") == "line b"));
    }
    let sites = pages(&world.rig, "/api/v1/sites?", 100);
    assert_eq!(sites[1]["sensors"]["total"], 10);
    assert_eq!(sites[0]["sensors"]["total"], 0);
    assert_eq!((&sites[5]["muted"], &sites[5]["sensors"]["muted"]), (&true.into(), &10.into()));
    assert_eq!(text(&sites[0], "/kind"), "enterprise");
    let sum: u64 = pages(&world.rig, &format!("/api/v1/zones?site={}&", world.sites[3]), 100)
        .iter()
        .map(|zone| zone["sensors"]["total"].as_u64().unwrap())
        .sum();
    assert_eq!(sum, 10);
    let found = |query: &str| pages(&world.rig, &format!("/api/v1/sites?{query}&"), 100).len();
    assert_eq!(found("tag=region=north"), 1);
    assert_eq!(found("tag=region=south"), 0);
    assert_eq!(found("owner=ANN@example.com"), 1);
    assert_eq!(found("subscription=00000000-0000-4000-8000-00000000ffff"), 0);
    let subscriptions = pages(&world.rig, "/api/v1/subscriptions?", 100);
    assert_eq!(text(&subscriptions[0], "/name"), "Default");
    assert_eq!((&subscriptions[0]["sites"], &subscriptions[0]["sensors"]), (&7.into(), &60.into()));
    assert!(pages(&world.rig, "/api/v1/gateways?", 100).is_empty());
}

#[test]
fn lists_of_places_refuse_what_they_do_not_know() {
    let world = World::new(1);
    for (path, field) in [
        ("sites?colour=red", "colour"),
        ("sites?subscription=x", "subscription"),
        ("zones?site=x", "site"),
        ("gateways?sort=size", "sort"),
        ("subscriptions?limit=0", "limit"),
        ("sites?cursor=nonsense", "cursor"),
    ] {
        let refused = world.rig.get(&format!("/api/v1/{path}"));
        assert_eq!((refused.status, &refused.json()["field"]), (400, &field.into()), "{path}");
    }
    let next = world.rig.get("/api/v1/sites?limit=1").json()["next"].as_str().unwrap().to_owned();
    for other in ["zones", "sites?q=s"] {
        let sign = if other.contains('?') { '&' } else { '?' };
        let refused = world.rig.get(&format!("/api/v1/{other}{sign}cursor={next}"));
        assert_eq!(refused.json()["code"], "bad-cursor", "{other}");
    }
}
