//! `stream<u8>` itself, both ends of it in one component ("Stream State" in the component model's `CanonicalABI.md`).

use std::pin::pin;

use faults::Checks;
use wasip3::spawn_local;
use wasip3::wit_bindgen::StreamResult::{Cancelled, Complete, Dropped};
use wasip3::wit_stream;

use crate::wait::{both, now, soon};

pub async fn check(checks: &mut Checks) {
    meetings(checks).await;
    ends(checks).await;
    giving_up(checks).await;
    much(checks).await;
}

/// A write meets a read.
async fn meetings(checks: &mut Checks) {
    let (mut writer, mut reader) = wit_stream::new::<u8>();
    let rest = {
        let mut write = pin!(writer.write(vec![1, 2, 3]));
        checks.same("a write waits for a read", now(write.as_mut()).await.map(|it| it.0), None);
        let read = soon(reader.read(Vec::with_capacity(2))).await;
        checks.same("a read takes what it has room for", read, Some((Complete(2), vec![1, 2])));
        let (result, rest) = write.await;
        checks.same("and the write tells how much was taken", result, Complete(2));
        rest
    };
    checks.same("which leaves the rest", rest.remaining(), 1);
    let (read, (result, rest)) = both(reader.read(Vec::with_capacity(9)), writer.write_buf(rest)).await;
    checks.same("a read takes less than it has room for", read, (Complete(1), vec![3]));
    checks.same("and the write of the rest is whole", (result, rest.remaining()), (Complete(1), 0));

    {
        let mut read = Box::pin(reader.read(vec![]));
        checks.same("a read of nothing waits for a write", now(read.as_mut()).await, None);
        let mut write = pin!(writer.write(vec![4]));
        checks.same("which does not end by it", now(write.as_mut()).await.map(|it| it.0), None);
        checks.same("though the read does", soon(read.as_mut()).await, Some((Complete(0), vec![])));
        drop(read);
        let read = soon(reader.read(Vec::with_capacity(1))).await;
        checks.same("and what was written is there", read, Some((Complete(1), vec![4])));
        checks.same("once", write.await.0, Complete(1));
    }
    {
        let mut write = Box::pin(writer.write(vec![]));
        checks.same("a write of nothing waits for a read", now(write.as_mut()).await.map(|it| it.0), None);
        let mut read = pin!(reader.read(Vec::with_capacity(1)));
        checks.same("which does not end by it either", now(read.as_mut()).await, None);
        checks.same("though the write does", soon(write.as_mut()).await.map(|it| it.0), Some(Complete(0)));
        drop(write);
        let (wrote, read) = both(writer.write(vec![5]), read.as_mut()).await;
        checks.same("and then takes what comes", (wrote.0, read), (Complete(1), (Complete(1), vec![5])));
    }
}

/// One end goes away.
async fn ends(checks: &mut Checks) {
    let (writer, mut reader) = wit_stream::new::<u8>();
    {
        let mut read = pin!(reader.read(Vec::with_capacity(1)));
        checks.same("a read waits for a write", now(read.as_mut()).await, None);
        drop(writer);
        checks.same("and ends with the writer", soon(read.as_mut()).await, Some((Dropped, vec![])));
    }
    let (writer, reader) = wit_stream::new::<u8>();
    drop(writer);
    checks.same("nothing comes of a stream without a writer", soon(reader.collect()).await, Some(vec![]));

    let (mut writer, reader) = wit_stream::new::<u8>();
    {
        let mut write = pin!(writer.write(vec![1, 2]));
        checks.same("a write waits", now(write.as_mut()).await.map(|it| it.0), None);
        drop(reader);
        let (result, values) = write.await;
        checks.same("and ends with the reader", result, Dropped);
        checks.same("which leaves all of it", values.into_vec(), vec![1, 2]);
    }
    let (mut writer, reader) = wit_stream::new::<u8>();
    drop(reader);
    checks.same("nothing is written to nobody", writer.write_all(vec![7]).await, vec![7]);

    let (mut writer, reader) = wit_stream::new::<u8>();
    let (left, mut read) = both(
        async {
            let left = writer.write_all(vec![1, 2, 3]).await;
            drop(writer);
            left
        },
        reader.collect(),
    )
    .await;
    read.sort_unstable();
    checks.same("what was written before the end is read", (left, read), (vec![], vec![1, 2, 3]));
}

/// A read or write is given up.
async fn giving_up(checks: &mut Checks) {
    let (mut writer, mut reader) = wit_stream::new::<u8>();
    {
        let mut read = pin!(reader.read(Vec::with_capacity(3)));
        checks.same("nothing was written", now(read.as_mut()).await, None);
        checks.same("a read is given up", read.as_mut().cancel(), (Cancelled, vec![]));
    }
    {
        let mut write = pin!(writer.write(vec![1, 2]));
        checks.same("nobody reads any longer", now(write.as_mut()).await.map(|it| it.0), None);
        let (result, values) = write.as_mut().cancel();
        checks.same("a write is given up", result, Cancelled);
        checks.same("and gives back what it had", values.into_vec(), vec![1, 2]);
    }
    {
        let mut write = pin!(writer.write(vec![3, 4]));
        checks.same("a write waits again", now(write.as_mut()).await.map(|it| it.0), None);
        let read = soon(reader.read(Vec::with_capacity(1))).await;
        checks.same("a part of it is taken", read, Some((Complete(1), vec![3])));
        let (result, values) = write.as_mut().cancel();
        checks.same("giving it up then tells how much", result, Complete(1));
        checks.same("and leaves the rest", values.remaining(), 1);
    }
    {
        // Dropped while it waits, which gives it up too.
        let mut read = pin!(reader.read(Vec::with_capacity(1)));
        let _ = now(read.as_mut()).await;
    }
    let (wrote, read) = both(writer.write(vec![9]), reader.read(Vec::with_capacity(4))).await;
    checks.same("the stream is as good as before", (wrote.0, read), (Complete(1), (Complete(1), vec![9])));
}

/// More than anybody keeps for another.
async fn much(checks: &mut Checks) {
    const BYTES: usize = 1 << 20;
    let (mut writer, mut reader) = wit_stream::new::<u8>();
    let writing = spawn_local(async move {
        let content: Vec<u8> = (0..BYTES).map(|at| at as u8).collect();
        writer.write_all(content).await.len()
    });
    let mut read = Vec::with_capacity(BYTES);
    let mut reads = 0;
    loop {
        let (result, chunk) = reader.read(Vec::with_capacity(10_000)).await;
        read.extend(chunk);
        reads += 1;
        if result == Dropped {
            break;
        }
    }
    checks.same("all of a large write arrives", read.len(), BYTES);
    checks.holds("in its order", read.iter().enumerate().all(|(at, byte)| *byte == at as u8), "in another");
    checks.holds("in as many reads as it takes", reads >= BYTES / 10_000, &reads.to_string());
    checks.same("and nothing is left of it", writing.await, Some(0));
}
