//! A picture in, the same picture in another size out. Knows nothing of components.

use std::fmt;
use std::io::Cursor;

use fast_image_resize::{PixelType, Resizer};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::metadata::Orientation;
use image::{
    ColorType, DynamicImage, ExtendedColorType, GrayAlphaImage, GrayImage, ImageDecoder, ImageEncoder,
    ImageError, ImageFormat, ImageReader, Limits, RgbImage, RgbaImage,
};

use crate::bounds::{
    DECODED_BYTES_MAX, INPUT_BYTES_MAX, PIXELS_MAX, PROFILE_BYTES_MAX, SIDE_MAX, check_size, target_size,
};

/// How much of a JPEG's detail is kept, of 100.
const JPEG_QUALITY: u8 = 85;

/// Why there is no result, in words for the person whose picture it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no input.
    Empty,
    /// The file is longer than we look at.
    TooLong(usize),
    /// The file is no PNG, JPEG or WebP.
    UnknownInput,
    /// The file begins as one, but cannot be read.
    Broken(ImageFormat, String),
    /// A picture has no pixels, or too many.
    Size {
        /// Which picture.
        what: &'static str,
        /// Its width.
        width: u32,
        /// Its height.
        height: u32,
    },
    /// The picture would be too large unpacked.
    Decoded(u64),
    /// Neither side was given.
    NoSize,
    /// The pixels could not be brought to that size.
    Unscalable(String),
    /// We do not write that format.
    UnknownFormat(String),
    /// That format cannot hold the result.
    Unwritable(ImageFormat, String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the input is empty"),
            Self::TooLong(bytes) => {
                write!(f, "the input has {bytes} bytes; at most {INPUT_BYTES_MAX} are read")
            }
            Self::UnknownInput => f.write_str("the input is not a PNG, JPEG or WebP file"),
            Self::Broken(format, why) => write!(f, "the input is a damaged {} file: {why}", name(*format)),
            Self::Size { what, width: 0, .. } | Self::Size { what, height: 0, .. } => {
                write!(f, "{what} has no pixels")
            }
            Self::Size { what, width, height } => write!(
                f,
                "{what} has {width} × {height} pixels; at most {SIDE_MAX} on a side and {PIXELS_MAX} together are handled"
            ),
            Self::Decoded(bytes) => {
                write!(
                    f,
                    "the input takes up {bytes} bytes unpacked; at most {DECODED_BYTES_MAX} are handled"
                )
            }
            Self::NoSize => f.write_str("width and height are both 0; give at least one"),
            Self::Unscalable(why) => write!(f, "the input cannot be brought to that size: {why}"),
            Self::UnknownFormat(format) => {
                // A stranger's text: shortened, and escaped.
                let short: String = format.chars().take(32).collect();
                write!(f, "there is no format {short:?}; there are \"png\", \"jpeg\" and \"webp\"")
            }
            Self::Unwritable(format, why) => {
                write!(f, "the result cannot be written as {}: {why}", name(*format))
            }
        }
    }
}

impl std::error::Error for Refusal {}

fn name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Png => "PNG",
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::WebP => "WebP",
        _ => "unknown",
    }
}

/// The picture `input` with `width` and `height` in `format`, as the contract in `wit/` says.
///
/// # Errors
/// When it cannot be read, is too large or would be, or the options make no sense.
pub fn resize(input: &[u8], width: u32, height: u32, format: &str) -> Result<Vec<u8>, Refusal> {
    let requested = parse_format(format)?;
    let (picture, from) = decode(input, |size| target_size(size, width, height))?;
    // Turned last: the smaller picture is usually the result.
    let mut upright = scale(picture.pixels, picture.target)?;
    upright.apply_orientation(picture.orientation);
    encode(upright, requested.unwrap_or(from), picture.profile)
}

/// The format that `text` names; `None` for that of the input.
fn parse_format(text: &str) -> Result<Option<ImageFormat>, Refusal> {
    match text.to_ascii_lowercase().as_str() {
        "" => Ok(None),
        "png" => Ok(Some(ImageFormat::Png)),
        "jpeg" | "jpg" => Ok(Some(ImageFormat::Jpeg)),
        "webp" => Ok(Some(ImageFormat::WebP)),
        _ => Err(Refusal::UnknownFormat(text.to_owned())),
    }
}

/// A picture as it lies in the file.
struct Picture {
    pixels: DynamicImage,
    /// How it must be turned to stand upright (EXIF).
    orientation: Orientation,
    /// What its colours mean (ICC), where that still holds for `pixels`.
    profile: Option<Vec<u8>>,
    /// The size to scale it to, before it is turned.
    target: (u32, u32),
}

/// Reads the head, checks it, asks `target_of` for the size of the result, and only then unpacks the rest.
fn decode(
    input: &[u8],
    target_of: impl Fn((u32, u32)) -> Result<(u32, u32), Refusal>,
) -> Result<(Picture, ImageFormat), Refusal> {
    if input.is_empty() {
        return Err(Refusal::Empty);
    }
    if input.len() > INPUT_BYTES_MAX {
        return Err(Refusal::TooLong(input.len()));
    }
    let format = image::guess_format(input)
        .ok()
        .filter(|format| matches!(format, ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP))
        .ok_or(Refusal::UnknownInput)?;
    let broken = |error: ImageError| Refusal::Broken(format, reason(&error));

    let mut limits = Limits::default();
    limits.max_alloc = Some(DECODED_BYTES_MAX);
    let mut reader = ImageReader::with_format(Cursor::new(input), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(broken)?;
    let (width, height) = decoder.dimensions();
    check_size("the input", width, height)?;
    if decoder.total_bytes() > DECODED_BYTES_MAX {
        return Err(Refusal::Decoded(decoder.total_bytes()));
    }
    // Neither is worth a refusal: a picture with damaged remarks is still a picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let profile = decoder.icc_profile().ok().flatten().filter(|profile| profile.len() <= PROFILE_BYTES_MAX);
    // A profile of ink says nothing about the light that the decoder made of it.
    let profile = profile.filter(|_| same_colours(decoder.original_color_type(), decoder.color_type()));
    let target = if lies_down(orientation) {
        let (width, height) = target_of((height, width))?;
        (height, width)
    } else {
        target_of((width, height))?
    };
    let pixels = DynamicImage::from_decoder(decoder).map_err(broken)?;
    Ok((Picture { pixels, orientation, profile, target }, format))
}

/// What a decoder said, in one line.
fn reason(error: &ImageError) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn same_colours(original: ExtendedColorType, decoded: ColorType) -> bool {
    let gray = matches!(
        original,
        ExtendedColorType::L1
            | ExtendedColorType::L2
            | ExtendedColorType::L4
            | ExtendedColorType::L8
            | ExtendedColorType::L16
            | ExtendedColorType::La8
            | ExtendedColorType::La16
    );
    original != ExtendedColorType::Cmyk8 && gray != decoded.has_color()
}

fn lies_down(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    )
}

/// The picture in the size `target`, eight bits a channel, with the channels it had.
fn scale(pixels: DynamicImage, (width, height): (u32, u32)) -> Result<DynamicImage, Refusal> {
    let size = (pixels.width(), pixels.height());
    let (kind, bytes) = match pixels.color() {
        ColorType::L8 | ColorType::L16 => (PixelType::U8, pixels.into_luma8().into_raw()),
        ColorType::La8 | ColorType::La16 => (PixelType::U8x2, pixels.into_luma_alpha8().into_raw()),
        ColorType::Rgb8 | ColorType::Rgb16 | ColorType::Rgb32F => {
            (PixelType::U8x3, pixels.into_rgb8().into_raw())
        }
        _ => (PixelType::U8x4, pixels.into_rgba8().into_raw()),
    };
    let bytes = if size == (width, height) {
        bytes
    } else {
        let from = fast_image_resize::images::Image::from_vec_u8(size.0, size.1, bytes, kind)
            .map_err(|error| Refusal::Unscalable(error.to_string()))?;
        let mut to = fast_image_resize::images::Image::new(width, height, kind);
        // Lanczos with three lobes; colours are weighted by their opacity, so that edges do not darken.
        Resizer::new()
            .resize(&from, &mut to, None)
            .map_err(|error| Refusal::Unscalable(error.to_string()))?;
        to.into_vec()
    };
    let scaled = match kind {
        PixelType::U8 => GrayImage::from_raw(width, height, bytes).map(DynamicImage::from),
        PixelType::U8x2 => GrayAlphaImage::from_raw(width, height, bytes).map(DynamicImage::from),
        PixelType::U8x3 => RgbImage::from_raw(width, height, bytes).map(DynamicImage::from),
        _ => RgbaImage::from_raw(width, height, bytes).map(DynamicImage::from),
    };
    scaled.ok_or(Refusal::Size { what: "the result", width, height })
}

fn encode(picture: DynamicImage, format: ImageFormat, profile: Option<Vec<u8>>) -> Result<Vec<u8>, Refusal> {
    let mut output = Vec::new();
    let written = match format {
        ImageFormat::Jpeg => {
            write(JpegEncoder::new_with_quality(&mut output, JPEG_QUALITY), &opaque(picture), profile)
        }
        ImageFormat::WebP => write(WebPEncoder::new_lossless(&mut output), &picture, profile),
        _ => write(PngEncoder::new(&mut output), &picture, profile),
    };
    written.map_err(|error| Refusal::Unwritable(format, reason(&error)))?;
    Ok(output)
}

fn write(
    mut encoder: impl ImageEncoder,
    picture: &DynamicImage,
    profile: Option<Vec<u8>>,
) -> Result<(), ImageError> {
    if let Some(profile) = profile {
        encoder.set_icc_profile(profile).map_err(ImageError::Unsupported)?;
    }
    encoder.write_image(picture.as_bytes(), picture.width(), picture.height(), picture.color().into())
}

/// JPEG knows no transparency: what is behind the picture is white.
fn opaque(picture: DynamicImage) -> DynamicImage {
    let over_white = |value: u8, alpha: u8| {
        let (value, alpha) = (u16::from(value), u16::from(alpha));
        ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    match picture {
        DynamicImage::ImageLumaA8(image) => {
            let (width, height) = image.dimensions();
            let gray = image.pixels().map(|pixel| over_white(pixel[0], pixel[1])).collect();
            GrayImage::from_raw(width, height, gray).unwrap_or_default().into()
        }
        DynamicImage::ImageRgba8(image) => {
            let (width, height) = image.dimensions();
            let rgb = image
                .pixels()
                .flat_map(|p| [p[0], p[1], p[2]].map(|value| over_white(value, p[3])))
                .collect();
            RgbImage::from_raw(width, height, rgb).unwrap_or_default().into()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
