//! The served description against the server: requests made up from it, good and bad, must have an answer that it
//! describes, and never one of failure.

use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use super::rig::Api;

/// Longest run. Each operation is asked about its edges first; the rest of the time goes into made-up requests.
const SECONDS: &str = "75";

#[test]
#[expect(clippy::print_stdout, reason = "the seed, and what was found")]
fn every_answer_is_one_that_is_described() {
    let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/schemathesis/bin/schemathesis");
    assert!(program.exists(), "{} is missing; tests/run --needs installs it", program.display());
    let api = Api::start();
    let (_, site, zone) = api.ground();
    api.sensor(&zone, "press");
    api.made("/api/v1/gateways", &json!({"name": "relay", "sites": [site]}));
    let seed = std::env::var("FLEETPULSE_SEED").unwrap_or_else(|_| "1".to_owned());
    println!("seed {seed}; set FLEETPULSE_SEED for another");
    let folder = tempfile::tempdir().unwrap();
    let address = api.server.http_addr();
    let output = Command::new(program)
        .current_dir(folder.path())
        .args(["run", &format!("http://{address}/api/v1/openapi.json")])
        .args(["--url", &format!("http://{address}")])
        // It would be its own token or user; these have tests of their own.
        .args(["--exclude-operation-id", "delete-token"])
        .args(["--exclude-operation-id", "delete-user"])
        .args(["--exclude-operation-id", "edit-user"])
        // Streams without an end have tests of their own.
        .args(["--exclude-path-regex", "^/api/v1/events/"])
        .args(["--header", &format!("Authorization: Bearer {}", api.token)])
        .args(["--checks", "not_a_server_error,status_code_conformance,content_type_conformance"])
        .args(["--checks", "response_schema_conformance,response_headers_conformance"])
        .args(["--phases", "examples,coverage,fuzzing,stateful", "--max-time", SECONDS, "--seed", &seed])
        .args(["--suppress-health-check", "all", "--warnings", "off", "--no-color", "--max-failures", "40"])
        .args(["--request-timeout", "30", "--generation-database", "none"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "seed {seed}: what it found is printed above");
    // It did not stand before a closed door: much of what it asked for was done, and its token is good to the end.
    assert_eq!(api.get("/api/v1/jobs").status, 200);
    let metrics = api.get("/metrics").body;
    for route in
        ["sites", "zones", "sensors", "subscriptions", "gateways", "users", "jobs", "audit", "backups"]
    {
        let start = format!("fleetpulse_http_requests_total{{route=\"{route}\",status=\"2xx\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(start.as_str()));
        let done: f64 = line.unwrap_or_else(|| panic!("no {start}")).parse().unwrap();
        assert!(done > 1.0, "nothing of `{route}` was done");
    }
}
