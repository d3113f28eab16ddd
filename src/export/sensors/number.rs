//! A whole number with a decimal point in it, as text.

/// No value.
pub(super) const ABSENT: i64 = i64::MIN;

const PAIRS: &[u8; 200] = b"0001020304050607080910111213141516171819\
2021222324252627282930313233343536373839\
4041424344454647484950515253545556575859\
6061626364656667686970717273747576777879\
8081828384858687888990919293949596979899";

/// Appends `value` divided by ten to the power of `decimals` (at most 9), without zeros at the end.
#[inline]
pub(super) fn write(out: &mut Vec<u8>, value: i64, decimals: u32) {
    let divisor = 10_u64.pow(decimals);
    let magnitude = value.unsigned_abs();
    if value < 0 {
        out.push(b'-');
    }
    if decimals == 0 {
        return whole(out, magnitude);
    }
    whole(out, magnitude / divisor);
    let mut rest = magnitude % divisor;
    if rest == 0 {
        return;
    }
    let mut digits = [b'0'; 9];
    let digits = &mut digits[..decimals as usize];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let used = digits.iter().rposition(|&digit| digit != b'0').map_or(0, |last| last + 1);
    out.push(b'.');
    out.extend_from_slice(&digits[..used]);
}

#[inline]
fn whole(out: &mut Vec<u8>, mut value: u64) {
    if value < 10 {
        return out.push(b'0' + value as u8);
    }
    let mut buffer = [0; 20];
    let mut at = buffer.len();
    while value >= 100 {
        let pair = (value % 100) as usize * 2;
        value /= 100;
        at -= 2;
        buffer[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    }
    if value >= 10 {
        let pair = value as usize * 2;
        at -= 2;
        buffer[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    } else {
        at -= 1;
        buffer[at] = b'0' + value as u8;
    }
    out.extend_from_slice(&buffer[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_exactly() {
        let check = |value, decimals, text: &str| {
            let mut out = Vec::new();
            write(&mut out, value, decimals);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        };
        check(0, 0, "0");
        check(9, 0, "9");
        check(10, 0, "10");
        check(101, 0, "101");
        check(i64::MAX, 0, "9223372036854775807");
        check(i64::MIN, 0, "-9223372036854775808");
        check(i64::MAX, 9, "9223372036.854775807");
        check(-1, 3, "-0.001");
        check(1_500, 3, "1.5");
        check(1_000, 3, "1");
        check(0, 6, "0");
        check(50, 3, "0.05");
        check(123_456_789, 6, "123.456789");
    }

    #[test]
    fn any_number_reads_back() {
        let mut value = 1_i64;
        for step in 0..10_000_i64 {
            value = value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step);
            let small = value >> (step % 63);
            for decimals in [0, 1, 3, 6] {
                let mut out = Vec::new();
                write(&mut out, small, decimals);
                let text = String::from_utf8(out).unwrap();
                let (head, tail) = text.split_once('.').unwrap_or((&text, ""));
                let padded = format!("{head}{tail:0<width$}", width = decimals as usize);
                assert_eq!(padded.parse::<i64>().unwrap(), small, "{text}");
            }
        }
    }
}
