//! What the configuration says, in the terms of those who go by it.

use super::enrolment::CertificateRules;
use crate::config::Config;
use crate::ingest::IngestConfig;

/// Of the QUIC side.
pub(super) fn ingest_config(config: &Config) -> IngestConfig {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    IngestConfig {
        listen: config.ingest.listen,
        enrol_listen: config.ingest.enrol_listen,
        shards: if config.ingest.shards == 0 { cores } else { config.ingest.shards },
        connections_per_shard: config.ingest.connections_per_shard,
        receive_buffer_bytes: config.ingest.receive_buffer_bytes,
        interval: Some(config.ingest.interval),
    }
}

/// Of certificates.
pub(super) fn certificate_rules(config: &Config) -> CertificateRules {
    let identity = &config.identity;
    CertificateRules {
        life: identity.certificate_life,
        grace: identity.renewal_grace,
        drift_max: identity.clock_drift_max,
    }
}
