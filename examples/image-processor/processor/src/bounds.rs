//! What this component takes on. A file of a few hundred bytes can claim to be a picture of four thousand million
//! pixels, so the claim is checked before memory is asked for.

use crate::resize::Refusal;

/// The longest file that is looked at.
pub const INPUT_BYTES_MAX: usize = 16 << 20;
/// The longest side of a picture, before and after.
pub const SIDE_MAX: u32 = 16_384;
/// The most pixels a picture may have, before and after: more than a 24-megapixel camera makes.
pub const PIXELS_MAX: u64 = 25_000_000;
/// The most memory a picture may take up when unpacked: `PIXELS_MAX` at four bytes each.
pub const DECODED_BYTES_MAX: u64 = 100_000_000;
/// The longest colour profile that is carried over to the result.
pub const PROFILE_BYTES_MAX: usize = 1 << 20;

/// Refuses a size that is nothing or too much; `what` has it.
pub fn check_size(what: &'static str, width: u32, height: u32) -> Result<(), Refusal> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || width > SIDE_MAX || height > SIDE_MAX || pixels > PIXELS_MAX {
        return Err(Refusal::Size { what, width, height });
    }
    Ok(())
}

/// The size that was asked for, of a picture of `from`: a side of 0 follows from the other and the proportions.
pub fn target_size(from: (u32, u32), width: u32, height: u32) -> Result<(u32, u32), Refusal> {
    // Rounded to the nearest pixel, and never to none. Sides are checked by now: 2^14 · 2^32 fits.
    let scaled = |side: u32, by: u32, of: u32| {
        let (side, by, of) = (u64::from(side), u64::from(by), u64::from(of));
        u32::try_from(((side * by + of / 2) / of).max(1)).unwrap_or(u32::MAX)
    };
    let (width, height) = match (width, height) {
        (0, 0) => return Err(Refusal::NoSize),
        (0, height) => (scaled(from.0, height, from.1), height),
        (width, 0) => (width, scaled(from.1, width, from.0)),
        both => both,
    };
    check_size("the result", width, height)?;
    Ok((width, height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_of_zero_follows_from_the_other() {
        assert_eq!(target_size((400, 300), 200, 0), Ok((200, 150)));
        assert_eq!(target_size((400, 300), 0, 150), Ok((200, 150)));
        assert_eq!(target_size((400, 300), 7, 9), Ok((7, 9)), "stretched");
        assert_eq!(target_size((3, 2), 100, 0), Ok((100, 67)), "rounded, not cut off");
        assert_eq!(target_size((10_000, 1), 10, 0), Ok((10, 1)), "never less than a pixel");
        assert_eq!(target_size((400, 300), 0, 0), Err(Refusal::NoSize));
    }

    #[test]
    fn what_is_too_large_is_refused_and_no_number_overflows() {
        for (width, height) in
            [(SIDE_MAX + 1, 1), (5_001, 5_000), (u32::MAX, u32::MAX), (0, u32::MAX), (u32::MAX, 0)]
        {
            let refused = target_size((SIDE_MAX, 1), width, height).unwrap_err();
            assert!(matches!(refused, Refusal::Size { what: "the result", .. }), "{refused}");
        }
        assert_eq!(target_size((1, 1), 5_000, 5_000), Ok((5_000, 5_000)));
        assert!(check_size("the input", 0, 5).is_err());
    }
}
