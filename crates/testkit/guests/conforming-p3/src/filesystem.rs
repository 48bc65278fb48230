//! `wasi:filesystem`, in a granted directory that may be written to and is empty.

use std::future::IntoFuture as _;
use std::pin::pin;

use faults::Checks;
use wasip3::clocks::system_clock::Instant;
use wasip3::filesystem::preopens::get_directories;
use wasip3::filesystem::types::{
    Advice, Descriptor, DescriptorFlags, DescriptorStat, ErrorCode, NewTimestamp, OpenFlags, PathFlags,
};
use wasip3::wit_bindgen::StreamResult::{Cancelled, Complete};
use wasip3::wit_stream;

use crate::wait::{both, now, soon};

const NONE: PathFlags = PathFlags::empty();
const FOLLOW: PathFlags = PathFlags::SYMLINK_FOLLOW;
const EMPTY: OpenFlags = OpenFlags::empty();
const READ: DescriptorFlags = DescriptorFlags::READ;
const BOTH: DescriptorFlags = DescriptorFlags::READ.union(DescriptorFlags::WRITE);

pub async fn open(
    at: &Descriptor,
    path: &str,
    how: OpenFlags,
    flags: DescriptorFlags,
) -> Result<Descriptor, ErrorCode> {
    at.open_at(NONE, path.to_owned(), how, flags).await
}

/// Writes through a stream, to its end.
pub async fn write(file: &Descriptor, content: &[u8], offset: u64) -> Result<(), ErrorCode> {
    let (mut writer, reader) = wit_stream::new();
    let done = file.write_via_stream(reader, offset);
    writer.write_all(content.to_vec()).await;
    drop(writer);
    done.await
}

async fn append(file: &Descriptor, content: &[u8]) -> Result<(), ErrorCode> {
    let (mut writer, reader) = wit_stream::new();
    let done = file.append_via_stream(reader);
    writer.write_all(content.to_vec()).await;
    drop(writer);
    done.await
}

/// Reads through a stream, to its end.
async fn read(file: &Descriptor, offset: u64) -> Result<Vec<u8>, ErrorCode> {
    let (reader, done) = file.read_via_stream(offset);
    let content = reader.collect().await;
    done.await.map(|()| content)
}

async fn make(at: &Descriptor, path: &str, content: &[u8]) -> Result<Descriptor, ErrorCode> {
    let file = open(at, path, OpenFlags::CREATE | OpenFlags::TRUNCATE, BOTH).await?;
    write(&file, content, 0).await?;
    Ok(file)
}

/// What a file holds, as text.
pub async fn content(at: &Descriptor, path: &str) -> Result<String, ErrorCode> {
    let file = open(at, path, EMPTY, READ).await?;
    read(&file, 0).await.map(|content| String::from_utf8_lossy(&content).into_owned())
}

async fn names(of: &Descriptor) -> Result<Vec<String>, ErrorCode> {
    let (entries, done) = of.read_directory();
    let mut names: Vec<_> = entries.collect().await.into_iter().map(|entry| entry.name).collect();
    names.sort();
    done.await.map(|()| names)
}

pub async fn check(checks: &mut Checks) {
    let Some((root, name)) = get_directories().into_iter().next() else {
        return checks.holds("there is a directory", false, "none");
    };
    checks.same("its name is that of the grant", name.as_str(), "/data");
    checks.same("there is no other", get_directories().len(), 1);
    checks.shows("it is a directory", root.get_type().await, "Ok(Directory)");
    opening(checks, &root).await;
    let Ok(file) = make(&root, "file", b"hello").await else {
        return checks.holds("a file is created", false, "it is not");
    };
    streams(checks, &root, &file).await;
    attributes(checks, &root, &file).await;
    directories(checks, &root, &file).await;
    links(checks, &root, &file).await;
    for name in ["file", "moved", "twin", "link"] {
        checks.shows(&format!("{name} is removed"), root.unlink_file_at(name.to_owned()).await, "Ok(())");
    }
    checks.shows("and so is the directory", root.remove_directory_at("sub".to_owned()).await, "Ok(())");
    checks.shows("and nothing is left", names(&root).await, "Ok([])");
}

async fn opening(checks: &mut Checks, root: &Descriptor) {
    checks.shows("a file that is not there", open(root, "none", EMPTY, READ).await, "Err(NoEntry)");
    checks.shows("no path at all", open(root, "", EMPTY, READ).await, "Err(NoEntry)");
    for path in ["/etc", "/", "../x", "..", "./../x", "sub/../../x"] {
        let _ = root.create_directory_at("sub".to_owned()).await;
        checks.shows(
            &format!("a path that leads out, {path}"),
            open(root, path, EMPTY, READ).await.map(|_| ()),
            "Err(NotPermitted)",
        );
    }
    let _ = root.remove_directory_at("sub".to_owned()).await;
    let file = make(root, "opened", b"x").await.map(|_| ());
    checks.shows("a file is created and written", file, "Ok(())");
    let again = open(root, "opened", OpenFlags::CREATE | OpenFlags::EXCLUSIVE, BOTH).await;
    checks.shows("exclusive creation over a file", again, "Err(Exist)");
    let directory = open(root, "opened", OpenFlags::DIRECTORY, READ).await;
    checks.shows("a file opened as a directory", directory, "Err(NotDirectory)");
    let through = open(root, "opened/x", EMPTY, READ).await;
    checks.shows("a path through a file", through, "Err(NotDirectory)");
    let flags = match open(root, "opened", EMPTY, READ).await {
        Ok(file) => file.get_flags().await,
        Err(error) => Err(error),
    };
    checks.holds("flags are those asked for", matches!(flags, Ok(READ)), &format!("{flags:?}"));
    let truncated = make(root, "opened", b"new").await.map(|_| ());
    checks.shows("a file is truncated while it is opened", truncated, "Ok(())");
    checks.shows("and holds what was written then", content(root, "opened").await, r#"Ok("new")"#);
    checks.shows("it is removed", root.unlink_file_at("opened".to_owned()).await, "Ok(())");
}

async fn streams(checks: &mut Checks, root: &Descriptor, file: &Descriptor) {
    checks.shows("what was written is read", content(root, "file").await, r#"Ok("hello")"#);
    checks.shows("from an offset on", read(file, 3).await, "Ok([108, 111])");
    checks.shows("nothing is behind the end", read(file, 50).await, "Ok([])");
    checks.shows(
        "nor at the very last offset",
        read(file, u64::MAX).await.is_ok_and(|it| !it.is_empty()),
        "false",
    );
    checks.shows("a sparse write", write(file, b"end", 10).await, "Ok(())");
    checks.shows("leaves zeros between", content(root, "file").await, r#"Ok("hello\0\0\0\0\0end")"#);
    checks.shows("nothing is written", write(file, b"", 3).await, "Ok(())");
    checks.shows("a file is cut", file.set_size(3).await, "Ok(())");
    checks.shows("and made longer", file.set_size(5).await, "Ok(())");
    checks.shows("with zeros", content(root, "file").await, r#"Ok("hel\0\0")"#);
    checks.shows("a stream appends", append(file, b"++").await, "Ok(())");
    checks.shows("and writes at its offset", write(file, b"EL", 1).await, "Ok(())");
    checks.shows("and that alone", content(root, "file").await, r#"Ok("hEL\0\0++")"#);

    // A write in parts is one after the other, and the result waits for the end of the stream.
    let (mut writer, reader) = wit_stream::new();
    let mut done = pin!(file.write_via_stream(reader, 0).into_future());
    for part in ["one", "", "two"] {
        let left = soon(writer.write_all(part.as_bytes().to_vec())).await;
        checks.same(&format!("a part is taken, {part:?}"), left, Some(vec![]));
    }
    checks.shows("the result waits for the end", now(done.as_mut()).await, "None");
    drop(writer);
    checks.shows("and then is there", soon(done.as_mut()).await, "Some(Ok(()))");
    checks.shows("the parts follow one another", content(root, "file").await, r#"Ok("onetwo+")"#);

    // Several streams of one file.
    let ((one, one_done), (two, two_done)) = (file.read_via_stream(0), file.read_via_stream(3));
    let both_read = both(one.collect(), two.collect()).await;
    checks.same("two streams of one file keep apart", both_read, (b"onetwo+".to_vec(), b"two+".to_vec()));
    checks.shows("and end well", (one_done.await, two_done.await), "(Ok(()), Ok(()))");
    let (reader, done) = file.read_via_stream(0);
    drop(reader);
    checks.shows("a stream nobody reads ends well", soon(done.into_future()).await, "Some(Ok(()))");
    let (mut reader, done) = file.read_via_stream(0);
    let (result, some) = reader.read(Vec::with_capacity(2)).await;
    drop(reader);
    checks.same("a stream is read in part", (result, some), (Complete(2), b"on".to_vec()));
    checks.shows("and given up", soon(done.into_future()).await, "Some(Ok(()))");
    let (mut reader, _) = file.read_via_stream(0);
    let given_up = {
        let mut reading = pin!(reader.read(Vec::with_capacity(3)));
        match now(reading.as_mut()).await {
            Some(read) => read,
            None => reading.as_mut().cancel(),
        }
    };
    let mut got = given_up.1;
    checks.holds(
        "a read that is given up has read or has not",
        matches!((given_up.0, got.len()), (Cancelled, 0) | (Complete(3), 3)),
        &format!("{:?}, {got:?}", given_up.0),
    );
    got.extend(reader.collect().await);
    checks.same("and nothing is lost by it", got, b"onetwo+".to_vec());

    // What may not be written, or read.
    let Ok(only_read) = open(root, "file", EMPTY, READ).await else {
        return checks.holds("a file is opened for reading", false, "it is not");
    };
    let (mut writer, reader) = wit_stream::new();
    let done = only_read.write_via_stream(reader, 0);
    let left = soon(writer.write_all(b"x".to_vec())).await;
    checks.same("nothing is taken for a file that is open for reading", left, Some(b"x".to_vec()));
    let refused = soon(done.into_future()).await;
    checks.holds(
        "and the result says so",
        matches!(refused, Some(Err(ErrorCode::BadDescriptor | ErrorCode::NotPermitted))),
        &format!("{refused:?}"),
    );
    let Ok(only_write) = open(root, "file", EMPTY, DescriptorFlags::WRITE).await else {
        return checks.holds("a file is opened for writing", false, "it is not");
    };
    let refused = read(&only_write, 0).await;
    checks.holds(
        "nothing is read of a file that is open for writing",
        matches!(refused, Err(ErrorCode::BadDescriptor | ErrorCode::NotPermitted)),
        &format!("{refused:?}"),
    );
    checks.shows(
        "data is forced to the disk",
        (file.sync_data().await, file.sync().await),
        "(Ok(()), Ok(()))",
    );
    checks.shows("also of a file that is open for reading", only_read.sync().await, "Ok(())");
    checks.shows("advice is taken", file.advise(0, 0, Advice::Sequential).await, "Ok(())");
}

async fn attributes(checks: &mut Checks, root: &Descriptor, file: &Descriptor) {
    checks.shows("a file is a file", file.get_type().await, "Ok(RegularFile)");
    checks.shows("it has a size", file.stat().await.map(|it| it.size), "Ok(7)");
    let by_path = root.stat_at(NONE, "file".to_owned()).await;
    checks.shows("by its path too", by_path.map(|it| (it.type_, it.size)), "Ok((RegularFile, 7))");
    let stat = root.stat_at(NONE, "none".to_owned()).await;
    checks.shows("what is not there has none", stat.map(|_| ()), "Err(NoEntry)");
    let out = root.stat_at(FOLLOW, "../x".to_owned()).await;
    checks.shows("nor what is outside", out.map(|_| ()), "Err(NotPermitted)");

    let time = Instant { seconds: 1_000_000_000, nanoseconds: 500_000_000 };
    let times = |found: &DescriptorStat| {
        [found.data_access_timestamp, found.data_modification_timestamp]
            .map(|it| it.map(|it| (it.seconds, it.nanoseconds)))
    };
    let set = file.set_times(NewTimestamp::Timestamp(time), NewTimestamp::Timestamp(time)).await;
    checks.shows("times are set", set, "Ok(())");
    let wanted = format!("Ok({:?})", [Some((time.seconds, time.nanoseconds)); 2]);
    checks.shows("and read", file.stat().await.map(|it| times(&it)), &wanted);
    let set = file.set_times(NewTimestamp::NoChange, NewTimestamp::NoChange).await;
    checks.shows("or left", set, "Ok(())");
    checks.shows("as they were", file.stat().await.map(|it| times(&it)), &wanted);
    let early = Instant { seconds: -10, nanoseconds: 0 };
    let set = file.set_times(NewTimestamp::Timestamp(early), NewTimestamp::NoChange).await;
    checks.shows("also to a time before 1970", set, "Ok(())");
    let accessed = file.stat().await.map(|it| it.data_access_timestamp.map(|it| it.seconds));
    checks.shows("which is read as it was set", accessed, "Ok(Some(-10))");
    let set = root.set_times_at(NONE, "file".to_owned(), NewTimestamp::NoChange, NewTimestamp::Now).await;
    checks.shows("or set to now", set, "Ok(())");
    let later = file
        .stat()
        .await
        .map(|it| it.data_modification_timestamp.is_some_and(|it| it.seconds > time.seconds));
    checks.shows("which is later", later, "Ok(true)");

    let hash = |it: wasip3::filesystem::types::MetadataHashValue| (it.lower, it.upper);
    let (one, two) = (
        file.metadata_hash().await.map(hash),
        root.metadata_hash_at(NONE, "file".to_owned()).await.map(hash),
    );
    checks.holds(
        "the hash of a file is that of its path",
        matches!((&one, &two), (Ok(one), Ok(two)) if one == two),
        &format!("{one:?}, {two:?}"),
    );
    let other = root.metadata_hash().await.map(hash);
    checks.holds(
        "and another's is another",
        matches!((&one, &other), (Ok(one), Ok(two)) if one != two),
        "the same",
    );
}

async fn directories(checks: &mut Checks, root: &Descriptor, file: &Descriptor) {
    let make_directory = async |at: &Descriptor, path: &str| at.create_directory_at(path.to_owned()).await;
    checks.shows("a directory is made", make_directory(root, "sub").await, "Ok(())");
    checks.shows("a directory made twice", make_directory(root, "sub").await, "Err(Exist)");
    checks.shows("a directory below nothing", make_directory(root, "none/sub").await, "Err(NoEntry)");
    checks.shows("a directory outside", make_directory(root, "../sub").await, "Err(NotPermitted)");
    let Ok(sub) = open(root, "sub", OpenFlags::DIRECTORY, READ | DescriptorFlags::MUTATE_DIRECTORY).await
    else {
        return checks.holds("a directory is opened", false, "it is not");
    };
    checks.shows("an empty directory has no entries", names(&sub).await, "Ok([])");
    checks.shows(
        "it cannot be left",
        open(&sub, "../file", EMPTY, READ).await.map(|_| ()),
        "Err(NotPermitted)",
    );
    for name in ["b", "a"] {
        checks.shows(
            &format!("{name} is made"),
            make(&sub, name, name.as_bytes()).await.map(|_| ()),
            "Ok(())",
        );
    }
    checks.shows("and a directory", make_directory(&sub, "c").await, "Ok(())");
    checks.shows("entries, without itself and its parent", names(&sub).await, r#"Ok(["a", "b", "c"])"#);
    let ((one, _), (two, _)) = (sub.read_directory(), sub.read_directory());
    let (one, two) = both(one.collect(), two.collect()).await;
    checks.same("two may list it at once", (one.len(), two.len()), (3, 3));
    let (mut entries, done) = sub.read_directory();
    let first = entries.next().await;
    drop(entries);
    checks.holds("a list is given up after its first entry", first.is_some(), "there is none");
    checks.shows("and ends well", soon(done.into_future()).await, "Some(Ok(()))");
    checks.shows("entries of a file", names(file).await, "Err(NotDirectory)");
    checks.shows("a directory read as a file", read(&sub, 0).await.map(|_| ()), "Err(IsDirectory)");

    checks.shows(
        "a directory that is not empty",
        root.remove_directory_at("sub".to_owned()).await,
        "Err(NotEmpty)",
    );
    checks.shows(
        "a file removed as a directory",
        sub.remove_directory_at("a".to_owned()).await,
        "Err(NotDirectory)",
    );
    let removed = sub.unlink_file_at("c".to_owned()).await;
    checks.holds("a directory removed as a file", removed.is_err(), "it was");
    checks.shows("an empty directory is removed", sub.remove_directory_at("c".to_owned()).await, "Ok(())");

    let rename = async |from: &Descriptor, old: &str, to: &Descriptor, new: &str| {
        from.rename_at(old.to_owned(), to, new.to_owned()).await
    };
    checks.shows("a file is renamed over another", rename(&sub, "a", &sub, "b").await, "Ok(())");
    checks.shows("which it takes the place of", content(&sub, "b").await, r#"Ok("a")"#);
    checks.shows("and leaves its own", names(&sub).await, r#"Ok(["b"])"#);
    checks.shows("into another directory", rename(&sub, "b", root, "moved").await, "Ok(())");
    checks.shows(
        "what is not there cannot be renamed",
        rename(root, "none", root, "x").await,
        "Err(NoEntry)",
    );
    checks.shows(
        "nothing is renamed to the outside",
        rename(root, "moved", root, "../x").await,
        "Err(NotPermitted)",
    );
    checks.shows("nor removed", root.unlink_file_at("none".to_owned()).await, "Err(NoEntry)");
    let over = [rename(root, "sub", root, "moved").await, rename(root, "moved", root, "sub").await];
    checks.holds(
        "a directory and a file do not take each other's place",
        over.iter().all(Result::is_err),
        "they do",
    );
}

async fn links(checks: &mut Checks, root: &Descriptor, file: &Descriptor) {
    let link = async |to: &str, name: &str| root.symlink_at(to.to_owned(), name.to_owned()).await;
    let type_at =
        async |flags: PathFlags, path: &str| root.stat_at(flags, path.to_owned()).await.map(|it| it.type_);
    checks.shows("a link to a file", link("moved", "link").await, "Ok(())");
    checks.shows("says where it leads", root.readlink_at("link".to_owned()).await, r#"Ok("moved")"#);
    checks.shows("is a link", type_at(NONE, "link").await, "Ok(SymbolicLink)");
    checks.shows("and followed the file", type_at(FOLLOW, "link").await, "Ok(RegularFile)");
    checks.shows(
        "it is not opened unless it is followed",
        open(root, "link", EMPTY, READ).await.map(|_| ()),
        "Err(Loop)",
    );
    let followed = root.open_at(FOLLOW, "link".to_owned(), EMPTY, READ).await.map(|_| ());
    checks.shows("followed it is", followed, "Ok(())");
    checks.shows("a link over a file", link("moved", "file").await, "Err(Exist)");
    checks.shows("readlink of a file", root.readlink_at("moved".to_owned()).await, "Err(Invalid)");
    checks.shows("no link to an absolute path", link("/etc", "absolute").await, "Err(NotPermitted)");
    if link("..", "out").await.is_ok() {
        let out = root.open_at(FOLLOW, "out".to_owned(), EMPTY, READ).await.map(|_| ());
        checks.shows("a link that leads out is not followed", out, "Err(NotPermitted)");
        let out = root.open_at(NONE, "out/x".to_owned(), EMPTY, READ).await.map(|_| ());
        checks.shows("nor on the way", out, "Err(NotPermitted)");
        checks.shows("it is removed again", root.unlink_file_at("out".to_owned()).await, "Ok(())");
    }
    let hard = async |old: &str, new: &str| root.link_at(NONE, old.to_owned(), root, new.to_owned()).await;
    checks.shows("a hard link", hard("moved", "twin").await, "Ok(())");
    if let (Ok(one), Ok(two)) =
        (open(root, "moved", EMPTY, READ).await, open(root, "twin", EMPTY, READ).await)
    {
        checks.same("is the same object", one.is_same_object(&two).await, true);
        checks.same("another is another", one.is_same_object(file).await, false);
        checks.shows("and counts", one.stat().await.map(|it| it.link_count), "Ok(2)");
    }
    checks.shows("a hard link over a file", hard("moved", "file").await, "Err(Exist)");
    checks.shows("a hard link to nothing", hard("none", "new").await, "Err(NoEntry)");
    checks.shows("a hard link to a directory", hard("sub", "new").await, "Err(NotPermitted)");
    checks.shows("a hard link from outside", hard("../x", "new").await, "Err(NotPermitted)");
}
