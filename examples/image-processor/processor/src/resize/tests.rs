use image::{Rgba, Rgba32FImage};

use super::*;

/// A picture of four quarters: red, green over blue, white; the right half half-transparent.
fn quarters(width: u32, height: u32) -> DynamicImage {
    RgbaImage::from_fn(width, height, |x, y| {
        let alpha = if x < width / 2 { 255 } else { 128 };
        match (x < width / 2, y < height / 2) {
            (true, true) => Rgba([255, 0, 0, alpha]),
            (false, true) => Rgba([0, 255, 0, alpha]),
            (true, false) => Rgba([0, 0, 255, alpha]),
            (false, false) => Rgba([255, 255, 255, alpha]),
        }
    })
    .into()
}

fn file(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let picture = if format == ImageFormat::Jpeg { picture.to_rgb8().into() } else { picture.clone() };
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn read(bytes: &[u8]) -> (ImageFormat, DynamicImage) {
    let format = image::guess_format(bytes).unwrap();
    (format, image::load_from_memory_with_format(bytes, format).unwrap())
}

fn refusal(input: &[u8], width: u32, height: u32, format: &str) -> String {
    resize(input, width, height, format).unwrap_err().to_string()
}

#[track_caller]
fn assert_near(found: Rgba<u8>, expected: [u8; 4]) {
    let near = found.0.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 6);
    assert!(near, "{found:?} is not {expected:?}");
}

#[test]
fn every_format_becomes_every_format() {
    for from in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
        let input = file(&quarters(64, 48), from);
        for (name, format) in [
            ("png", ImageFormat::Png),
            ("jpeg", ImageFormat::Jpeg),
            ("JPG", ImageFormat::Jpeg),
            ("webp", ImageFormat::WebP),
            ("", from),
        ] {
            let (found, picture) = read(&resize(&input, 32, 0, name).unwrap());
            assert_eq!((found, picture.width(), picture.height()), (format, 32, 24), "{from:?} to {name:?}");
            let (red, blue) = (picture.to_rgba8()[(7, 5)], picture.to_rgba8()[(7, 18)]);
            assert_near(red, [254, 0, 0, 255]);
            assert_near(blue, [0, 0, 254, 255]);
        }
    }
}

#[test]
fn transparency_is_kept_where_there_is_any_and_white_where_there_is_not() {
    let input = file(&quarters(64, 64), ImageFormat::Png);
    for format in ["png", "webp"] {
        let picture = read(&resize(&input, 16, 16, format).unwrap()).1.to_rgba8();
        assert_near(picture[(12, 3)], [0, 255, 0, 128]);
    }
    let picture = read(&resize(&input, 16, 16, "jpeg").unwrap()).1.to_rgba8();
    assert_near(picture[(12, 3)], [127, 255, 127, 255]);
}

#[test]
fn transparent_pixels_do_not_bleed_into_their_neighbours() {
    // White on the left, invisible black on the right: what is visible of the result is white.
    let picture = RgbaImage::from_fn(64, 8, |x, _| if x < 31 { Rgba([255; 4]) } else { Rgba([0; 4]) });
    let scaled = read(&resize(&file(&picture.into(), ImageFormat::Png), 16, 2, "png").unwrap()).1.to_rgba8();
    for pixel in scaled.pixels().filter(|pixel| pixel[3] > 16) {
        assert!(pixel[0] > 250, "{pixel:?}");
    }
}

#[test]
fn deep_and_gray_pictures_keep_their_channels() {
    let deep: DynamicImage = DynamicImage::from(Rgba32FImage::from_pixel(8, 8, Rgba([1.0, 0.5, 0.0, 1.0])));
    let deep = DynamicImage::from(deep.to_rgba16());
    assert_near(
        read(&resize(&file(&deep, ImageFormat::Png), 4, 4, "png").unwrap()).1.to_rgba8()[(1, 1)],
        [255, 128, 0, 255],
    );
    let gray = DynamicImage::from(GrayImage::from_pixel(8, 8, image::Luma([77])));
    let (_, small) = read(&resize(&file(&gray, ImageFormat::Png), 4, 4, "png").unwrap());
    assert_eq!(small.color(), ColorType::L8);
    assert_eq!(small.to_luma8()[(2, 2)], image::Luma([77]));
}

#[test]
fn a_camera_held_upright_gives_an_upright_picture() {
    // EXIF, big-endian TIFF with one entry: orientation (0x0112), short, 1, "rotate by 90° to the right" (6).
    let exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0".to_vec();
    let mut input = Vec::new();
    let mut encoder = PngEncoder::new(&mut input);
    encoder.set_exif_metadata(exif).unwrap();
    let picture = quarters(64, 32);
    encoder.write_image(picture.as_bytes(), 64, 32, ExtendedColorType::Rgba8).unwrap();

    let upright = read(&resize(&input, 16, 0, "").unwrap()).1.to_rgba8();
    assert_eq!(upright.dimensions(), (16, 32), "width and height are those of the picture as it is seen");
    assert_near(upright[(12, 8)], [255, 0, 0, 255]);
    assert_near(upright[(3, 8)], [0, 0, 255, 255]);
}

#[test]
fn colour_profiles_are_carried_over() {
    let profile = vec![7; 200];
    let mut input = Vec::new();
    let mut encoder = PngEncoder::new(&mut input);
    encoder.set_icc_profile(profile.clone()).unwrap();
    encoder.write_image(&[9; 8 * 8 * 3], 8, 8, ExtendedColorType::Rgb8).unwrap();
    for format in ["png", "jpeg", "webp"] {
        let output = resize(&input, 4, 4, format).unwrap();
        let mut decoder =
            ImageReader::new(Cursor::new(&output)).with_guessed_format().unwrap().into_decoder().unwrap();
        assert_eq!(decoder.icc_profile().unwrap().as_ref(), Some(&profile), "{format}");
    }
}

#[test]
fn the_same_picture_gives_the_same_file() {
    let input = file(&quarters(40, 30), ImageFormat::WebP);
    assert_eq!(resize(&input, 20, 20, "webp"), resize(&input, 20, 20, "webp"));
}

#[test]
fn what_is_no_picture_is_said_to_be_none() {
    assert_eq!(refusal(b"", 1, 1, ""), "the input is empty");
    assert_eq!(refusal(b"hello", 1, 1, ""), "the input is not a PNG, JPEG or WebP file");
    assert_eq!(refusal(b"GIF89a\x01\0\x01\0\0\0\0;", 1, 1, ""), "the input is not a PNG, JPEG or WebP file");
    let too_long = vec![0; INPUT_BYTES_MAX + 1];
    assert!(refusal(&too_long, 1, 1, "").starts_with("the input has 16777217 bytes"));
}

#[test]
fn options_that_make_no_sense_are_named() {
    let input = file(&quarters(8, 8), ImageFormat::Png);
    assert_eq!(refusal(&input, 0, 0, ""), "width and height are both 0; give at least one");
    assert_eq!(
        refusal(&input, 1, 1, "gif\n"),
        "there is no format \"gif\\n\"; there are \"png\", \"jpeg\" and \"webp\""
    );
    assert!(refusal(&input, 1, 1, &"x".repeat(1000)).len() < 120);
    assert!(refusal(&input, 20_000, 1, "").starts_with("the result has 20000 × 1 pixels"));
    assert!(refusal(&input, 9_000, 0, "").starts_with("the result has 9000 × 9000 pixels"));
}

#[test]
fn a_damaged_file_is_refused_and_nothing_panics() {
    // Cut off and overwritten at every step: seeded by the position, so the same each time.
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
        let whole = file(&quarters(24, 24), format);
        for at in 0..whole.len() {
            let _either = resize(&whole[..at], 8, 8, "png");
            let mut damaged = whole.clone();
            damaged[at] ^= (at as u8).wrapping_mul(37) | 1;
            let _either = resize(&damaged, 8, 8, "png");
        }
        let said = refusal(&whole[..whole.len() / 2], 8, 8, "png");
        assert!(said.starts_with(&format!("the input is a damaged {} file", name(format))), "{said}");
    }
}

/// CRC-32 as PNG has it.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

/// The head of a PNG that claims this size.
fn claim(width: u32, height: u32) -> Vec<u8> {
    let mut header = b"IHDR".to_vec();
    header.extend_from_slice(&width.to_be_bytes());
    header.extend_from_slice(&height.to_be_bytes());
    header.extend_from_slice(&[16, 6, 0, 0, 0]);
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    bytes.extend_from_slice(&header);
    bytes.extend_from_slice(&crc(&header).to_be_bytes());
    let empty = b"IDAT";
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(empty);
    bytes.extend_from_slice(&crc(empty).to_be_bytes());
    bytes
}

#[test]
fn a_bomb_is_refused_by_its_head() {
    assert!(refusal(&claim(60_000, 60_000), 1, 1, "").contains("60000 × 60000 pixels"));
    assert!(refusal(&claim(16_384, 16_384), 1, 1, "").contains("16384 × 16384 pixels"));
    // Few enough pixels, but of eight bytes each.
    let said = refusal(&claim(5_000, 4_900), 1, 1, "");
    assert_eq!(said, "the input takes up 196000000 bytes unpacked; at most 100000000 are handled");
}
