//! The small fleet that several tests play faults on.

/// Three sites, one of them behind a gateway.
const SITES: &str = "
    interval_ms = 500
    [[site]]
    name = 'north'
    sensors = 12
    [[site]]
    name = 'harbour'
    sensors = 4
    [[site]]
    name = 'mine'
    sensors = 3
    [[gateway]]
    name = 'relay'
    sites = ['mine']
";

/// Faults of every kind of cause that begin and end within 13 s: the sensor's own words, its silence, a site, a
/// gateway, a planned stop, a certificate.
pub const PASSING: &str = "
    [[fault]]
    name = 'hung process'
    kind = 'silence'
    site = 'north'
    sensors = '1'
    from_s = 2
    until_s = 12
    [[fault]]
    name = 'disk'
    kind = 'disk_full'
    site = 'north'
    sensors = '2-3'
    from_s = 2
    until_s = 8
    [[fault]]
    name = 'harbour cut off'
    kind = 'site_outage'
    site = 'harbour'
    from_s = 3
    until_s = 13
    [[fault]]
    name = 'gateway stopped'
    kind = 'gateway_silent'
    gateway = 'relay'
    from_s = 4
    until_s = 12
    [[fault]]
    name = 'planned stop'
    kind = 'goodbye'
    site = 'north'
    sensors = '4'
    from_s = 3
    until_s = 11
    [[fault]]
    name = 'certificate runs out'
    kind = 'certificate_expiring'
    site = 'north'
    sensors = '6'
    from_s = 3
    until_s = 8
";

/// A scenario on that fleet: its faults, and sites of its own.
pub fn small(name: &str, duration_s: u32, parts: &[&str]) -> String {
    format!("name = '{name}'\nduration_s = {duration_s}{SITES}{}", parts.concat())
}
