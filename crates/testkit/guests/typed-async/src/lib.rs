//! Async functions, streams and futures, in and out.

wit_bindgen::generate!({
    inline: "
        package fixture:streams;

        interface api {
            /// Waits for the other side of a future, so that it has to be resumed.
            double: async func(value: u32) -> u32;
            count: func(up-to: u32) -> stream<u32>;
            bytes: func(length: u32) -> stream<u8>;
            words: func(text: string) -> tuple<stream<string>, future<u32>>;
            later: func(value: string) -> future<result<string, string>>;
            shout: async func(text: stream<u8>) -> string;
            never: async func();
            abandon: func() -> stream<u8>;
        }

        world streams {
            export api;
        }
    ",
    async: ["export:fixture:streams/api#double", "export:fixture:streams/api#shout", "export:fixture:streams/api#never"],
});

use exports::fixture::streams::api::Guest;
use wit_bindgen::{FutureReader, StreamReader, spawn};

struct Streams;

impl Guest for Streams {
    async fn double(value: u32) -> u32 {
        let (writer, reader) = wit_future::new(|| 0);
        spawn(async move {
            let _ = writer.write(value).await;
        });
        reader.await * 2
    }

    fn count(up_to: u32) -> StreamReader<u32> {
        let (mut writer, reader) = wit_stream::new();
        spawn(async move {
            for number in 1..=up_to {
                writer.write_one(number).await;
            }
        });
        reader
    }

    fn bytes(length: u32) -> StreamReader<u8> {
        let (mut writer, reader) = wit_stream::new();
        spawn(async move {
            writer.write_all((0..length).map(|number| number as u8).collect()).await;
        });
        reader
    }

    fn words(text: String) -> (StreamReader<String>, FutureReader<u32>) {
        let (mut words, reader) = wit_stream::new();
        let (number, later) = wit_future::new(|| 0);
        spawn(async move {
            let split: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            // The future first, though it stands last.
            let _ = number.write(split.len() as u32).await;
            words.write_all(split).await;
        });
        (reader, later)
    }

    fn later(value: String) -> FutureReader<Result<String, String>> {
        let (writer, reader) = wit_future::new(|| Err("never".to_owned()));
        spawn(async move {
            let _ = writer.write(Ok(value)).await;
        });
        reader
    }

    async fn shout(text: StreamReader<u8>) -> String {
        String::from_utf8_lossy(&text.collect().await).to_uppercase()
    }

    async fn never() {
        let (_writer, reader) = wit_future::new::<u32>(|| 0);
        std::mem::forget(_writer);
        reader.await;
    }

    fn abandon() -> StreamReader<u8> {
        let (mut writer, reader) = wit_stream::new();
        spawn(async move {
            writer.write_all(vec![1]).await;
            panic!("in the middle of a stream");
        });
        reader
    }
}

export!(Streams);
