//! Durations (`30s`, `15m`, `24h`, `7d`) and sizes (`64KiB`, `1MB`) as people write them.

use std::time::Duration;

/// Reads a duration: a whole number and one of `ms`, `s`, `m`, `h`, `d`.
///
/// # Errors
/// What is allowed.
pub fn duration(text: &str) -> Result<Duration, String> {
    let allowed = || "must be a duration such as 30s, 15m, 24h or 7d".to_owned();
    let (number, unit) = split(text).ok_or_else(allowed)?;
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(allowed()),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(allowed)
}

/// Reads a size in bytes: a whole number and one of `B`, `kB`, `MB`, `GB`, `KiB`, `MiB`, `GiB`, or no unit for bytes.
///
/// # Errors
/// What is allowed.
pub fn size(text: &str) -> Result<u64, String> {
    let allowed = || "must be a size such as 64KiB, 1MB or 512MB".to_owned();
    let (number, unit) = split(text).ok_or_else(allowed)?;
    let bytes: u64 = match unit {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(allowed()),
    };
    number.checked_mul(bytes).ok_or_else(allowed)
}

fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    Some((number.parse().ok()?, unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_and_sizes_as_the_contract_writes_them() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(duration("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(604_800)));
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("1MB"), Ok(1_000_000));
        for bad in ["", "s", "-1s", "1.5h", "10", "10 parsecs", "99999999999999999999s", "18446744073709551615d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        for bad in ["", "MB", "-1", "1TB", "18446744073709551615GB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = duration(&text);
            let _ = size(&text);
        }

        #[test]
        fn seconds_round_trip(secs in 0u64..1_000_000) {
            prop_assert_eq!(duration(&format!("{secs}s")), Ok(Duration::from_secs(secs)));
        }
    }
}
