//! The export of the world `image-processor`, on top of `resize`.

use exports::demo::image_processor::processor::{Guest, ResizeOptions};

wit_bindgen::generate!({ path: "../wit", world: "image-processor" });

struct Processor;

impl Guest for Processor {
    fn resize(input: Vec<u8>, opts: ResizeOptions) -> Result<Vec<u8>, String> {
        crate::resize::resize(&input, opts.width, opts.height, &opts.format)
            .map_err(|refusal| refusal.to_string())
    }
}

export!(Processor);
