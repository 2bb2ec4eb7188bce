//! `--probability`: a decimal of eleven digits for what the kernel holds as parts of 2^31.

const KERNEL_SCALE: u128 = 1 << 31;
const DIGITS: u32 = 11;
const DECIMAL_SCALE: u128 = 100_000_000_000;
/// More digits than this are refused, so that the arithmetic stays within 128 bits.
const MAX_DIGITS: usize = 18;

/// As `iptables-save` prints it.
pub(super) fn render(threshold: u32) -> String {
    let scaled = (u128::from(threshold) * DECIMAL_SCALE + KERNEL_SCALE / 2) / KERNEL_SCALE;
    let width = DIGITS as usize;
    format!("{}.{:0width$}", scaled / DECIMAL_SCALE, scaled % DECIMAL_SCALE)
}

/// Nearest number of 2^31 parts; `None` beyond 1 or for what is no plain decimal.
pub(super) fn parse(text: &str) -> Option<u32> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |s: &str| s.len() <= MAX_DIGITS && s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let denominator = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let fraction = if fraction.is_empty() { 0 } else { fraction.parse::<u128>().ok()? };
    let numerator = whole.parse::<u128>().ok()?.checked_mul(denominator)?.checked_add(fraction)?;
    if numerator > denominator {
        return None;
    }
    u32::try_from((numerator * KERNEL_SCALE + denominator / 2) / denominator).ok()
}
