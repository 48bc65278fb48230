//! Every way out of a directory.

use std::cell::RefCell;

use wasip3::filesystem::preopens::get_directories;
use wasip3::filesystem::types::{Descriptor, DescriptorFlags, OpenFlags, PathFlags};
use wasip3::wit_stream;

const FOLLOW: PathFlags = PathFlags::SYMLINK_FOLLOW;
const NONE: OpenFlags = OpenFlags::empty();

/// Tries them in the directory that is found at `from` and may be written to, to the file `secret` among others; what
/// succeeded is listed.
pub async fn all(from: &str, secret: &str) -> String {
    let Some((root, _)) = get_directories().into_iter().find(|(_, at)| at == from) else {
        return "no directory".to_owned();
    };
    let escaped = RefCell::new(Vec::new());
    // Nothing of what is tried is within the directory, so that every success is one too many.
    let tried = async |path: &str| {
        if content(&root, path).await.is_some() {
            escaped.borrow_mut().push(path.to_owned());
        }
    };
    for path in [
        "../secret",
        "./../secret",
        "sub/../../secret",
        "..//secret",
        "/secret",
        "../../../../../../etc/hostname",
        "absolute",
        "relative",
        "chain",
        "dirlink/secret",
        "up/secret",
        "/proc/self/environ",
        "proc/self/root/etc/passwd",
        "sub/inner/../../../secret",
        secret,
    ] {
        tried(path).await;
    }
    for from in
        ["proc/self/root", "/proc/self/root", "../../../../../../../..", "proc/self/cwd", "up/../../.."]
    {
        tried(&format!("{from}{secret}")).await;
        tried(&format!("{from}/etc/hostname")).await;
    }
    // Directories, asked for as such.
    for path in
        ["..", "up", "dirlink", "proc", "proc/self/fd", "proc/self/root", "sub/../..", "/", "/proc", "/etc"]
    {
        let flags = DescriptorFlags::READ;
        if root.open_at(FOLLOW, path.to_owned(), OpenFlags::DIRECTORY, flags).await.is_ok() {
            escaped.borrow_mut().push(format!("{path}, as a directory"));
        }
    }
    // Links of its own making.
    let owned = |text: &str| text.to_owned();
    for (to, name) in
        [("../secret", "made"), ("/etc", "made-absolute"), ("..", "made-up"), ("sub/../..", "made-chain")]
    {
        let _ = root.symlink_at(owned(to), owned(name)).await;
        tried(name).await;
        tried(&format!("{name}/secret")).await;
        tried(&format!("{name}/hostname")).await;
    }
    for (old, new) in [
        ("../secret", "stolen"),
        ("absolute", "stolen-2"),
        ("relative", "stolen-3"),
        ("made-up/secret", "stolen-4"),
    ] {
        for flags in [FOLLOW, PathFlags::empty()] {
            let _ = root.link_at(flags, owned(old), &root, owned(new)).await;
            tried(new).await;
        }
        let _ = root.rename_at(owned(old), &root, owned(new)).await;
        tried(new).await;
    }
    for path in ["../planted", "up/planted", "relative", "made-up/planted", "sub/../../planted"] {
        let how = OpenFlags::CREATE | OpenFlags::TRUNCATE;
        if let Ok(file) = root.open_at(FOLLOW, owned(path), how, DescriptorFlags::WRITE).await {
            let (mut writer, reader) = wit_stream::new();
            let written = file.write_via_stream(reader, 0);
            writer.write_all(b"planted".to_vec()).await;
            drop(writer);
            let _ = written.await;
        }
        let _ = root.create_directory_at(format!("{path}-directory")).await;
        let _ = root.unlink_file_at(owned("../secret")).await;
    }
    format!("escaped: {:?}", escaped.borrow())
}

async fn content(at: &Descriptor, path: &str) -> Option<String> {
    let file = at.open_at(FOLLOW, path.to_owned(), NONE, DescriptorFlags::READ).await.ok()?;
    let (content, _done) = file.read_via_stream(0);
    Some(String::from_utf8_lossy(&content.collect().await).into_owned())
}
