//! `wasi:filesystem`, in a granted directory that may be written to and is empty.

use wasip2::clocks::wall_clock::Datetime;
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{
    Descriptor, DescriptorFlags, DescriptorType, ErrorCode, NewTimestamp, OpenFlags, PathFlags,
};

use faults::Checks;

const NONE: PathFlags = PathFlags::empty();
const BOTH: DescriptorFlags = DescriptorFlags::READ.union(DescriptorFlags::WRITE);

fn open(
    at: &Descriptor,
    path: &str,
    how: OpenFlags,
    flags: DescriptorFlags,
) -> Result<Descriptor, ErrorCode> {
    at.open_at(NONE, path, how, flags)
}

fn make(at: &Descriptor, path: &str, content: &[u8]) -> Result<Descriptor, ErrorCode> {
    let file = open(at, path, OpenFlags::CREATE | OpenFlags::TRUNCATE, BOTH)?;
    file.write(content, 0)?;
    Ok(file)
}

fn content(at: &Descriptor, path: &str) -> Result<Vec<u8>, ErrorCode> {
    let file = open(at, path, OpenFlags::empty(), DescriptorFlags::READ)?;
    Ok(file.read(1_000, 0)?.0)
}

fn names(of: &Descriptor) -> Result<Vec<String>, ErrorCode> {
    let entries = of.read_directory()?;
    let mut names = Vec::new();
    while let Some(entry) = entries.read_directory_entry()? {
        names.push(entry.name);
    }
    names.sort();
    Ok(names)
}

pub fn check(checks: &mut Checks) {
    let found = get_directories();
    let Some((root, name)) = found.into_iter().next() else {
        return checks.holds("there is a directory", false, "none");
    };
    checks.same("its name is that of the grant", name.as_str(), "/data");
    let empty = OpenFlags::empty();
    let read = DescriptorFlags::READ;
    checks.same("it is a directory", root.get_type(), Ok(DescriptorType::Directory));
    checks.fails("a file that is not there", open(&root, "none", empty, read), ErrorCode::NoEntry);
    checks.holds(
        "an absolute path",
        matches!(open(&root, "/etc", empty, read), Err(ErrorCode::NotPermitted)),
        "another error",
    );
    checks.holds(
        "a path that leads out",
        matches!(open(&root, "../x", empty, read), Err(ErrorCode::NotPermitted)),
        "another error",
    );

    let file = match make(&root, "file", b"hello") {
        Ok(file) => file,
        Err(error) => return checks.holds("a file is created", false, &format!("{error:?}")),
    };
    checks.same("a file is a file", file.get_type(), Ok(DescriptorType::RegularFile));
    checks.same("what was written is read", content(&root, "file"), Ok(b"hello".to_vec()));
    checks.same("a part of it is read, and is not the end", file.read(2, 1), Ok((b"el".to_vec(), false)));
    checks.same("nothing is read behind the end", file.read(10, 50), Ok((vec![], true)));
    checks.fails(
        "exclusive creation over a file",
        open(&root, "file", OpenFlags::CREATE | OpenFlags::EXCLUSIVE, BOTH),
        ErrorCode::Exist,
    );
    checks.fails(
        "a file opened as a directory",
        open(&root, "file", OpenFlags::DIRECTORY, read),
        ErrorCode::NotDirectory,
    );
    checks.fails("a path through a file", open(&root, "file/x", empty, read), ErrorCode::NotDirectory);
    checks.holds(
        "a file opened for reading cannot be written",
        open(&root, "file", empty, read).is_ok_and(|it| it.write(b"x", 0).is_err()),
        "it can",
    );
    checks.same(
        "flags are those asked for",
        open(&root, "file", empty, read).and_then(|it| it.get_flags()),
        Ok(read),
    );

    checks.same("a sparse write", file.write(b"end", 10), Ok(3));
    checks.same("leaves zeros between", content(&root, "file"), Ok(b"hello\0\0\0\0\0end".to_vec()));
    checks.same("the size of a file", file.stat().map(|it| it.size), Ok(13));
    checks.same("a file is cut", file.set_size(3), Ok(()));
    checks.same("and made longer", file.set_size(5), Ok(()));
    checks.same("with zeros", content(&root, "file"), Ok(b"hel\0\0".to_vec()));
    let appended = file.append_via_stream().map(|stream| stream.blocking_write_and_flush(b"++").is_ok());
    checks.same(
        "a stream appends",
        (appended, content(&root, "file")),
        (Ok(true), Ok(b"hel\0\0++".to_vec())),
    );
    let written = file.write_via_stream(1).map(|stream| stream.blocking_write_and_flush(b"EL").is_ok());
    checks.same(
        "a stream writes at its offset",
        (written, content(&root, "file")),
        (Ok(true), Ok(b"hEL\0\0++".to_vec())),
    );
    let streamed = file
        .read_via_stream(5)
        .map(|stream| (stream.blocking_read(100).ok(), stream.blocking_read(1).is_err()));
    checks.same("a stream reads from its offset to the end", streamed, Ok((Some(b"++".to_vec()), true)));
    checks.same(
        "truncation while opening",
        make(&root, "file", b"new").and_then(|_| content(&root, "file")),
        Ok(b"new".to_vec()),
    );
    checks.same("data is forced to the disk", (file.sync_data(), file.sync()), (Ok(()), Ok(())));

    checks.same("a directory is made", root.create_directory_at("sub"), Ok(()));
    checks.fails("a directory made twice", root.create_directory_at("sub"), ErrorCode::Exist);
    checks.fails("a directory below nothing", root.create_directory_at("none/sub"), ErrorCode::NoEntry);
    let sub = open(&root, "sub", OpenFlags::DIRECTORY, read | DescriptorFlags::MUTATE_DIRECTORY);
    let Ok(sub) = sub else { return checks.holds("a directory is opened", false, "it is not") };
    checks.same("an empty directory has no entries", names(&sub), Ok(vec![]));
    let _ = (make(&sub, "b", b"b"), make(&sub, "a", b"a"), sub.create_directory_at("c"));
    checks.same(
        "its entries, without itself and its parent",
        names(&sub),
        Ok(vec!["a".into(), "b".into(), "c".into()]),
    );
    checks.fails("a directory that is not empty", root.remove_directory_at("sub"), ErrorCode::NotEmpty);
    checks.fails("a file removed as a directory", sub.remove_directory_at("a"), ErrorCode::NotDirectory);
    checks.holds("a directory removed as a file", sub.unlink_file_at("c").is_err(), "it was");
    checks.fails("entries of a file", file.read_directory().map(|_| ()), ErrorCode::NotDirectory);
    checks.fails("a directory read as a file", sub.read(1, 0), ErrorCode::BadDescriptor);
    checks.same("an empty directory is removed", sub.remove_directory_at("c"), Ok(()));

    checks.same("a file is renamed over another", sub.rename_at("a", &sub, "b"), Ok(()));
    checks.same(
        "which it takes the place of",
        (content(&sub, "b"), names(&sub)),
        (Ok(b"a".to_vec()), Ok(vec!["b".into()])),
    );
    checks.same("into another directory", sub.rename_at("b", &root, "moved"), Ok(()));
    checks.fails(
        "what is not there cannot be renamed",
        root.rename_at("none", &root, "x"),
        ErrorCode::NoEntry,
    );
    checks.fails("nor removed", root.unlink_file_at("none"), ErrorCode::NoEntry);
    checks.holds(
        "a directory is not renamed over a file",
        root.rename_at("sub", &root, "moved").is_err(),
        "it was",
    );
    checks.holds("nor a file over a directory", root.rename_at("moved", &root, "sub").is_err(), "it was");

    checks.same("a link to a file", root.symlink_at("moved", "link"), Ok(()));
    checks.same("says where it leads", root.readlink_at("link"), Ok("moved".to_owned()));
    checks.same("is a link", root.stat_at(NONE, "link").map(|it| it.type_), Ok(DescriptorType::SymbolicLink));
    checks.same(
        "and followed the file",
        root.stat_at(PathFlags::SYMLINK_FOLLOW, "link").map(|it| it.type_),
        Ok(DescriptorType::RegularFile),
    );
    checks.fails("it is not opened unless it is followed", open(&root, "link", empty, read), ErrorCode::Loop);
    checks.holds(
        "followed it is",
        root.open_at(PathFlags::SYMLINK_FOLLOW, "link", empty, read).is_ok(),
        "it is not",
    );
    checks.fails("readlink of a file", root.readlink_at("moved"), ErrorCode::Invalid);
    checks.same("a hard link", root.link_at(NONE, "moved", &root, "twin"), Ok(()));
    let same = (open(&root, "moved", empty, read), open(&root, "twin", empty, read));
    if let (Ok(one), Ok(two)) = same {
        checks.same("is the same object", one.is_same_object(&two), true);
        checks.same(
            "has the same hash",
            one.metadata_hash().ok().map(|it| (it.lower, it.upper)),
            two.metadata_hash().ok().map(|it| (it.lower, it.upper)),
        );
        checks.same("another is another", one.is_same_object(&file), false);
        checks.same("and counts", one.stat().map(|it| it.link_count), Ok(2));
    }
    checks.fails("a hard link over a file", root.link_at(NONE, "moved", &root, "file"), ErrorCode::Exist);

    let time = Datetime { seconds: 1_000_000_000, nanoseconds: 500_000_000 };
    checks.same(
        "times are set",
        file.set_times(NewTimestamp::Timestamp(time), NewTimestamp::Timestamp(time)),
        Ok(()),
    );
    let times = |found: &wasip2::filesystem::types::DescriptorStat| {
        [found.data_access_timestamp, found.data_modification_timestamp]
            .map(|it| it.map(|it| (it.seconds, it.nanoseconds)))
    };
    let wanted = [Some((time.seconds, time.nanoseconds)); 2];
    checks.same("and read", file.stat().map(|it| times(&it)), Ok(wanted));
    checks.same(
        "or left",
        file.set_times(NewTimestamp::NoChange, NewTimestamp::NoChange)
            .and_then(|()| file.stat())
            .map(|it| times(&it)),
        Ok(wanted),
    );
    checks.same(
        "or set to now",
        root.set_times_at(NONE, "file", NewTimestamp::NoChange, NewTimestamp::Now),
        Ok(()),
    );
    checks.holds("which is later", file.stat().is_ok_and(|it| times(&it)[1] > wanted[1]), "it is not");
    for name in ["file", "moved", "twin", "link"] {
        checks.same(&format!("{name} is removed"), root.unlink_file_at(name), Ok(()));
    }
    checks.same(
        "and so is the directory",
        (root.remove_directory_at("sub"), names(&root)),
        (Ok(()), Ok(vec![])),
    );
}
