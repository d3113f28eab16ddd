//! Which text format a scraper gets: classic text, or OpenMetrics when it asks for it.

/// A text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4.
    Classic,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// For the `Content-Type` header.
    pub const fn content_type(self) -> &'static str {
        match self {
            Format::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// What an `Accept` header asks for: OpenMetrics when it is named (in a version that we write) and not
    /// wanted less than plain text; otherwise classic text, which everybody reads.
    pub fn negotiate(accept: &str) -> Format {
        let (mut open, mut classic) = (0.0_f32, 0.0_f32);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut quality, mut known) = (1.0, true);
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                match (name.trim().to_ascii_lowercase().as_str(), value.trim().trim_matches('"')) {
                    ("q", value) => quality = value.parse().unwrap_or(0.0_f32).clamp(0.0, 1.0),
                    ("version", version) if media.starts_with("application/openmetrics") => {
                        known = matches!(version, "1.0.0" | "0.0.1");
                    }
                    _ => {}
                }
            }
            match media.as_str() {
                "application/openmetrics-text" if known => open = open.max(quality),
                "text/plain" | "text/*" | "*/*" => classic = classic.max(quality),
                _ => {}
            }
        }
        if open > 0.0 && open >= classic { Format::OpenMetrics } else { Format::Classic }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrapers_get_what_they_ask_for() {
        let check = |accept: &str, format| assert_eq!(Format::negotiate(accept), format, "{accept}");
        check("", Format::Classic);
        check("*/*", Format::Classic);
        check("text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", Format::Classic);
        check("application/openmetrics-text", Format::OpenMetrics);
        check(
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            Format::OpenMetrics,
        );
        check("application/openmetrics-text; version=\"1.0.0\"; q=0.4, text/plain; q=0.9", Format::Classic);
        check("application/openmetrics-text; version=7.0.0, text/plain", Format::Classic);
        check("application/openmetrics-text;q=0", Format::Classic);
        check(";;;=,q=,,;q=NaN", Format::Classic);
        check("application/openmetrics-text;q=nonsense", Format::Classic);
    }
}
