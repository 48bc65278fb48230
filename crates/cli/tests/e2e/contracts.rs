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
