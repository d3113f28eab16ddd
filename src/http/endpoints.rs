//! `GET /api/v1/endpoints`: what firewalls must let through, made from the configuration at work.
//!
//! One row a purpose and way: who connects to whom, where to, and for which sensors it is needed. No row is written by
//! hand: ports are those that are bound, names those that the server's certificate is good for, and what is not
//! configured has no row. All ingest threads share one UDP port, so a fleet needs one rule for its heartbeats. Nobody ever
//! connects to a sensor. What sensors ask others for (names, time) is configured on their hosts; these rows name no
//! hosts, and are there so that they are not forgotten.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::app::App;
use super::backend::Reached;
use super::caller::Caller;
use super::csv::Line;
use super::download;
use super::file::{Format, format_of};
use super::params::Params;
use super::problem::Problem;
use super::times::rfc3339;
use super::workers::{Places, work};
use crate::config::MetricsAccess;
use crate::limits::KEEP_ALIVE;
use crate::live::SensorType;

/// Endpoint details.
#[derive(Serialize, ToSchema)]
#[schema(as = Endpoints)]
struct Document {
    made_at: String,
    items: Vec<Endpoint>,
}

/// One way that a firewall must let through.
#[derive(Serialize, ToSchema)]
#[schema(as = Endpoint)]
struct Endpoint {
    /// For programs; stays.
    purpose: &'static str,
    /// `to-server`, `from-server`, or `elsewhere`: between others.
    direction: &'static str,
    /// Who begins the connection.
    from: &'static str,
    /// Whom it is for.
    to: &'static str,
    /// `udp` or `tcp`. Answers come back the same way.
    protocol: &'static str,
    /// What is spoken over it.
    application: &'static str,
    /// Names or addresses of whom it is for; none when only the host that begins it knows.
    hosts: Vec<String>,
    /// Port of whom it is for; that of who begins is any.
    port: u16,
    /// Where the server itself listens, when it is for the server.
    listens_on: Option<String>,
    /// Without it something does not work that is in use; the others are a matter of taste.
    required: bool,
    /// Types of sensors that need it; none when it is not sensors that do.
    sensor_types: Vec<&'static str>,
    /// What else there is to know.
    note: String,
}

/// Sensors that connect; those that are locally managed never do.
const CONNECTING: [SensorType; 2] = [SensorType::OtCloud, SensorType::EnterpriseIot];

#[utoipa::path(get, path = "/api/v1/endpoints", operation_id = "get-endpoints", tag = "Files",
    summary = "Endpoint details: what firewalls must let through, from the configuration at work",
    description = "As JSON, or with `Accept: text/csv` as CSV. Either is a file; its signature is where its header \
        `Fleetpulse-Signature` says.",
    params(("type" = Option<String>, Query, description = "Only what sensors of this type need: ot-cloud, ot-local, enterprise-iot")),
    responses((status = 200, description = "All of them", content(
        (Document = "application/json"), (String = "text/csv")))))]
pub(super) async fn endpoints(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let mut params = Params::parse(query.as_deref())?;
    let kind = params.choice(
        "type",
        |name| SensorType::ALL.into_iter().find(|kind| kind.as_str() == name),
        || SensorType::ALL.iter().map(|kind| kind.as_str()).collect(),
    )?;
    params.finish(&["type"])?;
    let format = format_of(&headers).filter(|format| *format == Format::Csv).unwrap_or(Format::Json);
    let begun = download::begin(&app, &caller, "endpoints", format).await?;
    let bytes = work(&app, Places::Api, move |app| {
        let mut items = all(app, &app.backend.reached());
        items.retain(|item| kind.is_none_or(|kind| item.sensor_types.contains(&kind.as_str())));
        written(items, format, rfc3339(app.clock.unix()))
    });
    let mut whole = Some(bytes.await?);
    Ok(begun.answer(&app, move |_| Ok(whole.take())))
}

fn written(items: Vec<Endpoint>, format: Format, made_at: String) -> Vec<u8> {
    if format != Format::Csv {
        // Made of texts and numbers: it does not fail.
        return serde_json::to_vec_pretty(&Document { made_at, items }).unwrap_or_default();
    }
    let mut out = Vec::new();
    let mut head = Line::begin(&mut out);
    COLUMNS.iter().for_each(|column| head.cell(column));
    head.end();
    for item in &items {
        let mut line = Line::begin(&mut out);
        for text in [item.purpose, item.direction, item.from, item.to, item.protocol, item.application] {
            line.cell(text);
        }
        line.cell(&item.hosts.join("; "));
        line.cell(&item.port.to_string());
        line.cell(item.listens_on.as_deref().unwrap_or_default());
        line.cell(if item.required { "true" } else { "false" });
        line.cell(&item.sensor_types.join("; "));
        line.cell(&item.note);
        line.end();
    }
    out
}

const COLUMNS: [&str; 12] = [
    "purpose",
    "direction",
    "from",
    "to",
    "protocol",
    "application",
    "hosts",
    "port",
    "listens_on",
    "required",
    "sensor_types",
    "note",
];

fn all(app: &App, reached: &Reached) -> Vec<Endpoint> {
    let mut items = ingest(reached);
    items.extend(web(app, reached));
    if let Some((host, port)) = app.oidc.as_ref().and_then(|oidc| host_and_port(oidc.issuer())) {
        items.extend(identity_provider(&host, port));
    }
    items.extend(of_sensor_hosts(reached));
    items
}

/// What sensors and gateways need of the server.
fn ingest(reached: &Reached) -> Vec<Endpoint> {
    let row = |purpose, from, at: SocketAddr, note: String| Endpoint {
        purpose,
        direction: "to-server",
        from,
        to: "server",
        protocol: "udp",
        application: "QUIC (TLS 1.3)",
        hosts: reached.names.clone(),
        port: at.port(),
        listens_on: Some(at.to_string()),
        required: true,
        sensor_types: CONNECTING.map(SensorType::as_str).to_vec(),
        note: format!("{note}{}", only_here(at.ip(), "ingest")),
    };
    let flow = format!(
        "One port for all sensors and gateways. Sensors keep a quiet flow open every {} s: let idle UDP flows live longer. \
         It passes through NAT, and through no HTTP proxy.",
        KEEP_ALIVE.as_secs()
    );
    let once =
        "Activation, and renewal of certificates that ran out; others are renewed over the heartbeats' port.";
    vec![
        row("heartbeats", "sensors, gateways", reached.ingest, flow),
        row("enrolment", "sensors", reached.enrolment, once.to_owned()),
    ]
}

/// What people and programs need of the server.
fn web(app: &App, reached: &Reached) -> Vec<Endpoint> {
    let public = reached.public_url.as_deref().and_then(host_and_port);
    let here = only_here(app.listening.ip(), "http");
    let tls = app.tls.is_some() || reached.public_url.as_deref().is_some_and(|url| url.starts_with("https"));
    let (hosts, port) = match &public {
        Some((host, port)) => (vec![host.clone()], *port),
        None if here.is_empty() => (reached.names.clone(), app.listening.port()),
        None => (vec![app.listening.ip().to_string()], app.listening.port()),
    };
    let row = |purpose, from, required, note: &str| Endpoint {
        purpose,
        direction: "to-server",
        from,
        to: "server",
        protocol: "tcp",
        application: if tls { "HTTPS" } else { "HTTP" },
        hosts: hosts.clone(),
        port,
        listens_on: Some(app.listening.to_string()),
        required,
        sensor_types: Vec::new(),
        note: match &public {
            Some(_) => format!("{note} What stands in front connects to {}.", app.listening),
            None => format!("{note}{here}"),
        },
    };
    let reachable = public.is_some() || here.is_empty();
    let metrics = match app.sign_in.config.metrics {
        MetricsAccess::Everywhere => "Paths below /metrics, without sign-in.",
        MetricsAccess::Loopback => "Paths below /metrics, with an API token from another machine.",
        MetricsAccess::Nowhere => "Paths below /metrics, with an API token.",
    };
    vec![
        row("api", "browsers, API clients", reachable, "Console, API and command line."),
        row("metrics", "Prometheus", false, metrics),
    ]
}

fn identity_provider(host: &str, port: u16) -> [Endpoint; 2] {
    let row = |purpose, direction, from, note: &str| Endpoint {
        purpose,
        direction,
        from,
        to: "identity provider",
        protocol: "tcp",
        application: "HTTPS",
        hosts: vec![host.to_owned()],
        port,
        listens_on: None,
        required: true,
        sensor_types: Vec::new(),
        note: note.to_owned(),
    };
    let more = "It may name other hosts for its keys and tokens; its metadata says.";
    [
        row("identity-provider", "from-server", "server", more),
        row("identity-provider-browsers", "elsewhere", "browsers", "People sign in there."),
    ]
}

/// What sensors' hosts ask others for.
fn of_sensor_hosts(reached: &Reached) -> [Endpoint; 3] {
    let row = |purpose, to, protocol, application, port, required, note: &str| Endpoint {
        purpose,
        direction: "elsewhere",
        from: "sensors, gateways",
        to,
        protocol,
        application,
        hosts: Vec::new(),
        port,
        listens_on: None,
        required,
        sensor_types: CONNECTING.map(SensorType::as_str).to_vec(),
        note: note.to_owned(),
    };
    // A host with an address in its activation file asks no name server.
    let by_name = !reached.names.iter().any(|name| name.parse::<IpAddr>().is_ok());
    let names = "Only where sensors find the server by its name.";
    let time = "Where the agent is configured with time servers (`ntp_servers`) it asks them too; by any other way the host's \
                clock must be right to two minutes for activation.";
    [
        row("name-resolution", "the host's name server", "udp", "DNS", 53, by_name, names),
        row("name-resolution-tcp", "the host's name server", "tcp", "DNS", 53, by_name, names),
        row("time", "the host's time servers", "udp", "NTP", 123, false, time),
    ]
}

/// That an address is of no use to other machines, and what to change.
fn only_here(at: IpAddr, section: &str) -> String {
    match at.is_loopback() {
        true => {
            format!(" It listens on this machine only (`{section}.listen`): no firewall has to know of it.")
        }
        false => String::new(),
    }
}

/// Host and port of a URL.
fn host_and_port(url: &str) -> Option<(String, u16)> {
    let url: Uri = url.parse().ok()?;
    let usual = if url.scheme_str() == Some("http") { 80 } else { 443 };
    Some((url.host()?.to_owned(), url.port_u16().unwrap_or(usual)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_host_and_a_port() {
        let read = |url| host_and_port(url).unwrap();
        assert_eq!(read("https://idp.example/realms/x"), ("idp.example".to_owned(), 443));
        assert_eq!(read("http://127.0.0.1:8443"), ("127.0.0.1".to_owned(), 8443));
        assert_eq!(read("http://[::1]"), ("[::1]".to_owned(), 80));
    }

    #[test]
    fn names_are_resolved_only_where_there_is_no_address() {
        let reached = |names: &[&str]| Reached {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            ingest: ([0, 0, 0, 0], 4_433).into(),
            enrolment: ([0, 0, 0, 0], 4_434).into(),
            public_url: None,
        };
        let needed = |names: &[&str]| of_sensor_hosts(&reached(names))[0].required;
        assert!(needed(&["fleet.example"]));
        assert!(!needed(&["fleet.example", "192.0.2.1"]));
    }

    #[test]
    fn a_file_of_it_is_harmless_and_whole() {
        let reached = Reached {
            names: vec!["=fleet,example".into(), "192.0.2.1".into()],
            ingest: ([0, 0, 0, 0], 4_433).into(),
            enrolment: ([127, 0, 0, 1], 4_434).into(),
            public_url: None,
        };
        let bytes = written(ingest(&reached), Format::Csv, String::new());
        let mut reader = csv::Reader::from_reader(bytes.as_slice());
        let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert_eq!((rows.len(), rows[0].len()), (2, COLUMNS.len()));
        assert_eq!((&rows[0][6], &rows[0][7]), ("'=fleet,example; 192.0.2.1", "4433"));
        assert!(!rows[0][11].contains("this machine") && rows[1][11].contains("this machine"));
    }
}
