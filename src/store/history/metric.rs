//! The charted values and their two bytes on disk.
//!
//! Shares are kept in thousandths. Amounts are kept as floating codes with 11 bits of mantissa: exact to
//! 2,047 units, to 0.05 % above, up to 2^41. Codes sort as their values do, so that the smallest and the
//! largest can be kept as small distances from the last.

/// A charted value of a sensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Metric {
    /// Share of the expected heartbeats that arrived, 0 to 1.
    DeliveryRatio,
    /// Jitter of arrivals, milliseconds.
    Jitter,
    /// Captured bytes a second.
    RxBytes,
    /// Captured packets a second.
    RxPackets,
    /// Share of packets that capture lost, 0 to 1.
    DropRatio,
    /// CPU use, 0 to 1.
    Cpu,
    /// Memory use, 0 to 1.
    Memory,
    /// Fill of the root partition, 0 to 1.
    DiskRoot,
    /// Monitored devices.
    Devices,
    /// Round-trip time to the server, milliseconds.
    Rtt,
    /// Share of the time in which heartbeats came as they should, 0 to 1.
    Availability,
}

/// Metrics that are kept as columns; availability is kept as bits.
pub(super) const COLUMNS: usize = 10;

/// No value.
pub(super) const UNKNOWN: u16 = u16::MAX;

impl Metric {
    /// All metrics, in the order of their columns.
    pub const ALL: [Metric; COLUMNS + 1] = [
        Metric::DeliveryRatio,
        Metric::Jitter,
        Metric::RxBytes,
        Metric::RxPackets,
        Metric::DropRatio,
        Metric::Cpu,
        Metric::Memory,
        Metric::DiskRoot,
        Metric::Devices,
        Metric::Rtt,
        Metric::Availability,
    ];

    /// Its name in APIs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Metric::DeliveryRatio => "delivery-ratio",
            Metric::Jitter => "jitter-ms",
            Metric::RxBytes => "rx-bytes-per-second",
            Metric::RxPackets => "rx-packets-per-second",
            Metric::DropRatio => "drop-ratio",
            Metric::Cpu => "cpu-ratio",
            Metric::Memory => "memory-ratio",
            Metric::DiskRoot => "disk-root-ratio",
            Metric::Devices => "devices",
            Metric::Rtt => "rtt-ms",
            Metric::Availability => "availability-ratio",
        }
    }

    /// The metric of a name.
    pub fn from_name(name: &str) -> Option<Metric> {
        Metric::ALL.into_iter().find(|metric| metric.as_str() == name)
    }

    /// Units of the code in one unit of the value, and whether the code is a plain number.
    const fn scale(self) -> (f64, bool) {
        match self {
            Metric::Jitter | Metric::Rtt => (1_000.0, false),
            Metric::RxPackets => (10.0, false),
            Metric::RxBytes | Metric::Devices => (1.0, false),
            _ => (1_000.0, true),
        }
    }

    /// A value as it is kept; what is no value is [`UNKNOWN`].
    pub(super) fn code(self, value: f64) -> u16 {
        let (scale, plain) = self.scale();
        if !value.is_finite() || value < 0.0 {
            return UNKNOWN;
        }
        let units = (value * scale).round();
        if plain { units.min(f64::from(UNKNOWN - 1)) as u16 } else { float_code(units as u64) }
    }

    /// The value of a code.
    pub(super) fn value(self, code: u16) -> Option<f64> {
        let (scale, plain) = self.scale();
        let units = if plain { u64::from(code) } else { float_units(code) };
        (code != UNKNOWN).then_some(units as f64 / scale)
    }
}

/// 5 bits of exponent, 11 of mantissa with the leading one left out; below 2,048 the number itself.
fn float_code(units: u64) -> u16 {
    if units < 2_048 {
        return units as u16;
    }
    let exponent = units.ilog2() - 11;
    if exponent > 30 {
        return UNKNOWN - 1;
    }
    let code = ((exponent as u16 + 1) << 11) | ((units >> exponent) & 0x7ff) as u16;
    code.min(UNKNOWN - 1)
}

fn float_units(code: u16) -> u64 {
    match code >> 11 {
        0 => u64::from(code),
        exponent => (u64::from(code & 0x7ff) | 0x800) << (exponent - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_keep_values_and_their_order() {
        for metric in Metric::ALL {
            let mut before = 0;
            for power in 0..400 {
                let value = 1.05f64.powi(power) / 1_000.0;
                let code = metric.code(value);
                assert!(code >= before && code != UNKNOWN, "{metric:?} {value}");
                before = code;
                let (scale, plain) = metric.scale();
                let most = if plain { 65.0 } else { 1e12 / scale };
                if value < most {
                    let back = metric.value(code).expect("a value");
                    assert!(
                        (back - value).abs() <= (value / 2_000.0).max(0.5 / scale),
                        "{metric:?} {value} {back}"
                    );
                }
            }
            assert_eq!(metric.code(f64::NAN), UNKNOWN);
            assert_eq!(metric.value(UNKNOWN), None);
            assert_eq!(Metric::from_name(metric.as_str()), Some(metric));
        }
    }
}
