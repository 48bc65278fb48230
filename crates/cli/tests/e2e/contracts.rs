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
    let refused = tenon.run(tenon.data(), ["wit", "fmt", "--check"]).expect_code(1);
    refused.expect_stderr(&["not-formatted", "wit/a.wit"]);
    assert_eq!(std::fs::read_to_string(wit.join("a.wit")).unwrap(), untidy);
    tenon.run(tenon.data(), ["wit", "fmt"]).expect_code(0);
    let tidy = "package a:b; // mine\ninterface i {\n    f: func();\n}\n";
    assert_eq!(std::fs::read_to_string(wit.join("a.wit")).unwrap(), tidy);
    assert_eq!(std::fs::read_to_string(wit.join("deps/other/b.wit")).unwrap(), untidy, "it is another's");
    tenon.run(tenon.data(), ["wit", "fmt", "--check"]).expect_code(0);

    std::fs::write(wit.join("a.wit"), "package a:b;\ninterface {").unwrap();
    let refused = tenon.run(tenon.data(), ["wit", "fmt"]).expect_code(1);
    refused.expect_stderr(&["wit-invalid", "a.wit:2:11"]);
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
}
