//! Async functions, streams and futures, in and out.

wit_bindgen::generate!({
    inline: "
        package fixture:streams;

        interface api {
            double: async func(value: u32) -> u32;
            count: async func(up-to: u32) -> stream<u32>;
            bytes: async func(length: u32) -> stream<u8>;
            words: async func(text: string) -> tuple<stream<string>, future<u32>>;
            later: async func(value: string) -> future<result<string, string>>;
            judged: async func(number: u32) -> future<result<list<u8>, level>>;
            shout: async func(text: stream<u8>) -> string;
            never: async func();
            abandon: async func() -> stream<u8>;

            /// One reading, with something of every kind.
            record reading {
                id: u64,
                name: string,
                at: option<f64>,
                level: level,
                tags: list<string>,
                marks: marks,
                shape: shape,
            }
            enum level { low, high }
            flags marks { first, last }
            variant shape { none, circle(f32), named(tuple<string, u8>) }

            bytes-of: async func(value: list<u8>) -> result<list<u8>, string>;
            one: async func(value: reading) -> reading;
            two: async func(a: reading, b: reading) -> tuple<reading, reading>;

            readings: async func(number: u32) -> stream<reading>;
            checked: async func(number: u32) -> result<stream<reading>, level>;
            twice: async func(readings: stream<reading>) -> stream<reading>;
            sum: async func(numbers: stream<u32>) -> u64;
            weighed: async func(factor: future<u32>, numbers: stream<u32>) -> future<u64>;
            first: async func(numbers: stream<u32>) -> option<u32>;
            ticks: async func(number: u32) -> stream;
            reported: async func(number: u32) -> report;
            record report { title: future<string>, lines: list<stream<string>> }
            falter: async func(number: u32) -> stream<reading>;
        }

        world streams {
            export api;
        }
    ",
});

use exports::fixture::streams::api::{Guest, Level, Marks, Reading, Report, Shape};
use wit_bindgen::{FutureReader, StreamReader, spawn_local};

struct Streams;

fn reading(number: u32) -> Reading {
    Reading {
        id: u64::MAX - u64::from(number),
        name: format!("reading {number}"),
        at: (number % 2 == 0).then(|| f64::from(number) / 4.0),
        level: if number % 3 == 0 { Level::High } else { Level::Low },
        tags: (0..number % 3).map(|tag| format!("\"{tag}\"")).collect(),
        marks: if number == 0 { Marks::FIRST } else { Marks::empty() },
        shape: match number % 3 {
            0 => Shape::None,
            1 => Shape::Circle(0.1),
            _ => Shape::Named(("n".to_owned(), 7)),
        },
    }
}

fn stream_of(number: u32) -> StreamReader<Reading> {
    let (mut writer, reader) = wit_stream::new();
    spawn_local(async move {
        writer.write_all((0..number).map(reading).collect()).await;
    });
    reader
}

impl Guest for Streams {
    async fn double(value: u32) -> u32 {
        let (writer, reader) = wit_future::new(|| 0);
        spawn_local(async move {
            let _ = writer.write(value).await;
        });
        reader.await * 2
    }

    async fn count(up_to: u32) -> StreamReader<u32> {
        let (mut writer, reader) = wit_stream::new();
        spawn_local(async move {
            for number in 1..=up_to {
                // It comes back when nobody reads any more.
                if writer.write_one(number).await.is_some() {
                    break;
                }
            }
        });
        reader
    }

    async fn bytes(length: u32) -> StreamReader<u8> {
        let (mut writer, reader) = wit_stream::new();
        spawn_local(async move {
            writer.write_all((0..length).map(|number| number as u8).collect()).await;
        });
        reader
    }

    async fn words(text: String) -> (StreamReader<String>, FutureReader<u32>) {
        let (mut words, reader) = wit_stream::new();
        let (number, later) = wit_future::new(|| 0);
        spawn_local(async move {
            let split: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            // The future first, though it stands last.
            let _ = number.write(split.len() as u32).await;
            words.write_all(split).await;
        });
        (reader, later)
    }

    async fn later(value: String) -> FutureReader<Result<String, String>> {
        let (writer, reader) = wit_future::new(|| Err("never".to_owned()));
        spawn_local(async move {
            let _ = writer.write(Ok(value)).await;
        });
        reader
    }

    async fn judged(number: u32) -> FutureReader<Result<Vec<u8>, Level>> {
        let (writer, reader) = wit_future::new(|| Err(Level::Low));
        spawn_local(async move {
            let given = match number {
                0 => Err(Level::Low),
                101.. => Err(Level::High),
                number => Ok((0..number).map(|byte| byte as u8).collect()),
            };
            let _ = writer.write(given).await;
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

    async fn bytes_of(value: Vec<u8>) -> Result<Vec<u8>, String> {
        if value.is_empty() { Err("there are none".to_owned()) } else { Ok(value) }
    }

    async fn one(value: Reading) -> Reading {
        value
    }

    async fn two(a: Reading, b: Reading) -> (Reading, Reading) {
        (b, a)
    }

    async fn readings(number: u32) -> StreamReader<Reading> {
        stream_of(number)
    }

    async fn checked(number: u32) -> Result<StreamReader<Reading>, Level> {
        if number > 100 { Err(Level::High) } else { Ok(stream_of(number)) }
    }

    async fn twice(mut readings: StreamReader<Reading>) -> StreamReader<Reading> {
        let (mut writer, reader) = wit_stream::new();
        spawn_local(async move {
            while let Some(reading) = readings.next().await {
                writer.write_all(vec![reading.clone(), reading]).await;
            }
        });
        reader
    }

    async fn sum(mut numbers: StreamReader<u32>) -> u64 {
        let mut sum = 0;
        while let Some(number) = numbers.next().await {
            sum += u64::from(number);
        }
        sum
    }

    async fn weighed(factor: FutureReader<u32>, numbers: StreamReader<u32>) -> FutureReader<u64> {
        let (writer, reader) = wit_future::new(|| 0);
        spawn_local(async move {
            let sum = Self::sum(numbers).await;
            let _ = writer.write(sum * u64::from(factor.await)).await;
        });
        reader
    }

    async fn first(mut numbers: StreamReader<u32>) -> Option<u32> {
        numbers.next().await
    }

    async fn ticks(number: u32) -> StreamReader<()> {
        let (mut writer, reader) = wit_stream::new();
        spawn_local(async move {
            writer.write_all(vec![(); number as usize]).await;
        });
        reader
    }

    async fn reported(number: u32) -> Report {
        let (writer, title) = wit_future::new(String::new);
        let mut lines = Vec::new();
        for line in 0..number {
            let (mut writer, reader) = wit_stream::new();
            lines.push(reader);
            spawn_local(async move {
                writer.write_all(vec![format!("line {line}"); line as usize]).await;
            });
        }
        spawn_local(async move {
            let _ = writer.write("the title".to_owned()).await;
        });
        Report { title, lines }
    }

    async fn falter(number: u32) -> StreamReader<Reading> {
        let (mut writer, reader) = wit_stream::new();
        spawn_local(async move {
            writer.write_all((0..number).map(reading).collect()).await;
            panic!("in the middle of a stream");
        });
        reader
    }

    async fn abandon() -> StreamReader<u8> {
        let (mut writer, reader) = wit_stream::new();
        spawn_local(async move {
            writer.write_all(vec![1]).await;
            panic!("in the middle of a stream");
        });
        reader
    }
}

export!(Streams);
