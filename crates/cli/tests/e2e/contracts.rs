//! `tenon wit`: contracts laid out and documented.

use tenon_testkit::repository;

use crate::support::tenon;

#[test]
fn contracts_are_laid_out_and_checked() {
    let tenon = tenon();
    let wit = tenon.data().join("wit");
    std::fs::create_dir_all(wit.join("deps/other")).unwrap();
    let untidy = "package a:b; // mine\ninterface i{f:func();}\n";
    for file in ["a.wit", "deps/other/b.wit"] {
        std::fs::write(wit.join(file), untidy).unwrap();
    }
    let refused = tenon.run(tenon.data(), ["wit", "fmt", ".", "--check"]).expect_code(1);
    refused.expect_stderr(&["not-formatted", "wit/a.wit"]);
    assert_eq!(std::fs::read_to_string(wit.join("a.wit")).unwrap(), untidy);
    tenon.run(tenon.data(), ["wit", "fmt"]).expect_code(0);
    let tidy = "package a:b; // mine\ninterface i {\n    f: func();\n}\n";
    assert_eq!(std::fs::read_to_string(wit.join("a.wit")).unwrap(), tidy);
    assert_eq!(std::fs::read_to_string(wit.join("deps/other/b.wit")).unwrap(), untidy, "it is another's");
    tenon.run(tenon.data(), ["wit", "fmt", ".", "--check"]).expect_code(0);

    std::fs::write(wit.join("a.wit"), "package a:b;\ninterface {").unwrap();
    let refused = tenon.run(tenon.data(), ["wit", "fmt"]).expect_code(1);
    refused.expect_stderr(&["wit-invalid", "a.wit:2:11"]);
}

#[test]
fn a_package_of_several_files_is_laid_out() {
    let tenon = tenon();
    let write = |name: &str, text: &str| std::fs::write(tenon.data().join(name), text).unwrap();
    write("types.wit", "package a:b;\ninterface types{type id=u32;}\n");
    write("world.wit", "world w{use types.{id};import f:func(id:id);}\n");
    tenon.run(tenon.data(), ["wit", "fmt", "world.wit"]).expect_code(0);
    let laid_out = std::fs::read_to_string(tenon.data().join("world.wit")).unwrap();
    assert_eq!(laid_out, "world w {\n    use types.{id};\n    import f: func(id: id);\n}\n");
    tenon.run(tenon.data(), ["wit", "fmt", "."]).expect_code(0);
    tenon.run(tenon.data(), ["wit", "fmt", ".", "--check"]).expect_code(0);

    let deep = tenon.data().join(["folder"; 17].join("/"));
    std::fs::create_dir_all(deep).unwrap();
    tenon
        .run(tenon.data(), ["wit", "fmt", ".", "--check"])
        .expect_code(1)
        .expect_stderr(&["folder-too-large"]);
}

#[test]
fn the_examples_are_laid_out_like_this() {
    let tenon = tenon();
    let examples = repository().join("examples");
    tenon
        .run(tenon.data(), ["wit".as_ref(), "fmt".as_ref(), "--check".as_ref(), examples.as_os_str()])
        .expect_code(0);
}

#[test]
fn every_package_has_a_page() {
    let tenon = tenon();
    let wit = repository().join("examples/storefront/wit");
    let args = ["wit".as_ref(), "docs".as_ref(), wit.as_os_str(), "-o".as_ref(), "out".as_ref()];
    tenon.run(tenon.data(), args).expect_code(0);
    let page = |name: &str| std::fs::read_to_string(tenon.data().join("out").join(name)).unwrap();
    assert!(page("index.html").contains("href=\"demo-auth-1.0.0.html\""));
    assert!(page("demo-auth-1.0.0.html").contains("<a href=\"#types.claims\">claims</a>"));
    assert!(page("demo-storefront-1.0.0.html").contains("href=\"demo-auth-1.0.0.html#verify\""));
    assert!(page("demo-auth-1.0.0.md").contains("[`claims`](#types.claims)"));

    // Again over its own, but not over another's.
    tenon.run(tenon.data(), args).expect_code(0);
    let written = page("index.html");
    std::fs::write(tenon.data().join("out/index.md"), "# Mine\n").unwrap();
    std::fs::remove_file(tenon.data().join("out/index.html")).unwrap();
    tenon.run(tenon.data(), args).expect_code(1).expect_stderr(&["docs-page-taken", "out/index.md"]);
    assert_eq!(page("index.md"), "# Mine\n");
    assert!(!tenon.data().join("out/index.html").exists(), "nothing is written");
    assert!(written.starts_with("<!-- Written by `tenon wit docs`. -->\n<!doctype html>"));
}

#[test]
fn dependencies_are_copied_and_locked() {
    let tenon = tenon();
    let root = tenon.data();
    let write = |name: &str, text: &str| {
        let file = root.join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    };
    let read = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
    let run = |args: &[&str]| tenon.run(root, ["wit", "deps"].iter().chain(args));
    write(
        "app/wit/app.wit",
        "package a:app; world w { import a:shapes/points@1.0.0; import wasi:random/random@0.2.12; }",
    );
    write(
        "shapes/points.wit",
        "package a:shapes@1.0.0; /// Of the plane.\ninterface points { record point { x: u32 } }",
    );
    let wit = ["--wit", "app/wit"];

    let added = run(&[&["add", "shapes", "wasi:random@0.2.12"][..], &wit].concat()).expect_code(0);
    added.expect_stderr(&["a:shapes@1.0.0", "wasi:random@0.2.12"]);
    assert!(read("app/wit/deps/a-shapes-1.0.0.wit").contains("/// Of the plane."));
    let lock = read("app/wit/deps.lock");
    assert!(lock.contains("source = \"../../shapes\"") && lock.contains("digest = \"sha256:"), "{lock}");
    // What was added is found.
    tenon.run(root, ["wit", "docs", "app/wit", "-o", "pages"]).expect_code(0);
    run(&[&["lock", "--locked"][..], &wit].concat()).expect_code(0);
    run(&[&["vendor", "--locked"][..], &wit].concat()).expect_code(0);

    // What changes is named, on either side.
    write("shapes/points.wit", "package a:shapes@1.0.0; interface points { record point { x: u64 } }");
    let changed = run(&[&["vendor", "--locked"][..], &wit].concat()).expect_code(1);
    changed.expect_stderr(&["wit-deps-changed", "a:shapes@1.0.0"]);
    let conflict = run(&[&["add", "shapes"][..], &wit].concat()).expect_code(1);
    conflict.expect_stderr(&["wit-deps-conflict"]);
    assert_eq!(read("app/wit/deps.lock"), lock, "nothing was changed");
    run(&[&["vendor"][..], &wit].concat()).expect_code(0);
    assert!(read("app/wit/deps/a-shapes-1.0.0.wit").contains("x: u64"));
    write("app/wit/deps/mine.wit", "package c:mine;\ninterface i {}\n");
    let more = run(&[&["lock", "--locked"][..], &wit].concat()).expect_code(1);
    more.expect_stderr(&["`c:mine` is in `deps`, and is not locked"]);
    run(&[&["lock"][..], &wit].concat()).expect_code(0);
    run(&[&["lock", "--locked"][..], &wit].concat()).expect_code(0);

    // Nothing is fetched from elsewhere yet.
    run(&[&["add", "acme:shapes@1.2"][..], &wit].concat()).expect_code(1).expect_stderr(&["registry-path"]);
    run(&[&["add", "wasi:http@0.2.99"][..], &wit].concat())
        .expect_code(1)
        .expect_stderr(&["wit-deps-unknown"]);
    run(&[&["add", "gone.wit"][..], &wit].concat()).expect_code(1).expect_stderr(&["wit-missing"]);
}

#[test]
fn a_component_is_a_source_of_contracts() {
    let tenon = tenon();
    let root = tenon.data();
    let component = tenon_testkit::Guests::get("typed");
    let component = component.to_str().unwrap();
    let json = tenon.run(root, ["wit", "deps", "add", component, "--json", "--quiet"]).expect_code(0).json();
    let added: Vec<&str> = json["added"].as_array().unwrap().iter().filter_map(|it| it.as_str()).collect();
    assert!(added.iter().any(|name| name.starts_with("fixture:typed")), "{added:?}");
    assert!(!added.iter().any(|name| name.starts_with("root:component")), "{added:?}");
}

#[test]
fn what_toolchains_generate_is_shown() {
    let tenon = tenon();
    let root = tenon.data();
    let wit = "package a:b; interface i { f-of: func(list-of: list<string>); } world w { export i; }";
    std::fs::create_dir_all(root.join("wit")).unwrap();
    std::fs::write(root.join("wit/a.wit"), wit).unwrap();
    for (language, file, text) in [
        ("rust", "w.rs", "trait Guest"),
        ("go", "internal/wit/wit_exports.go", "export_a_b_i.FOf("),
        ("c", "w.h", "exports_a_b_i_f_of("),
        ("cpp", "w_cpp.h", "FOf("),
        ("assemblyscript", "assembly/wit/exports.ts", "fOf"),
    ] {
        let shown = tenon.run(root, ["wit", "bindgen", "--lang", language]).expect_code(0).stdout;
        assert!(shown.contains(&format!("==> {file} <==")) && shown.contains(text), "{language}\n{shown}");
        let out = root.join(language);
        tenon.run(root, ["wit", "bindgen", "--lang", language, "--out", language]).expect_code(0);
        assert!(std::fs::read_to_string(out.join(file)).unwrap().contains(text), "{language}");
    }
    let unclear = tenon.run(root, ["wit", "bindgen", "--lang", "c", "--world", "x"]).expect_code(1);
    unclear.expect_stderr(&["world-unknown"]);
}
