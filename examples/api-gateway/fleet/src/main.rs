//! Makes a gateway for each of many customers: `fleet BUILT COUNT OUT`.
//!
//! `BUILT` is the folder with the components that `tenon build` made. In `OUT` each customer gets a folder with a manifest
//! and a `customer.wasm` of its own, in which the text of the policy was replaced; the other components are the same
//! files for all. `OUT/keys.tsv` has a key for each. The same count makes the same bytes.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use sha2::{Digest as _, Sha256};

/// As in `customer/src/policy.rs`.
const MARK: &str = "demo:gateway/customer, 4096 bytes from here:\n";
const PLACE_BYTES: usize = 4_096;
/// More customers than this are a slip of the finger.
const CUSTOMERS_MAX: u32 = 100_000;
/// The components that all customers share.
const SHARED: [&str; 5] = ["auth", "limiter", "validator", "quotes", "gateway"];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match &args[..] {
        [built, count, out] => match count.parse() {
            Ok(count @ 1..=CUSTOMERS_MAX) => make(Path::new(built), count, Path::new(out)),
            _ => Err(format!("COUNT is a number from 1 to {CUSTOMERS_MAX}")),
        },
        _ => Err("write: fleet BUILT COUNT OUT".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fleet: {error}");
            ExitCode::FAILURE
        }
    }
}

fn make(built: &Path, count: u32, out: &Path) -> Result<(), String> {
    let template = read(&built.join("customer.wasm"))?;
    let place = find(&template)?;
    let shared = out.join("shared");
    for name in SHARED {
        write(&shared.join(name).with_extension("wasm"), &read(&built.join(name).with_extension("wasm"))?)?;
    }
    let mut keys = String::from("customer\thost\tkey\n");
    for number in 1..=count {
        let customer = Customer::of(number);
        let folder = out.join("customers").join(&customer.name);
        write(&folder.join("customer.wasm"), &customer.component(&template, place)?)?;
        write(&folder.join("tenon.toml"), customer.manifest().as_bytes())?;
        let _infallible = writeln!(keys, "{}\t{}\t{}", customer.name, customer.host(), customer.key());
    }
    write(&out.join("keys.tsv"), keys.as_bytes())?;
    println!("{count} customers in {}", out.display());
    Ok(())
}

/// Where the place begins; there must be one and no more.
fn find(template: &[u8]) -> Result<usize, String> {
    let found: Vec<usize> = template
        .windows(MARK.len())
        .enumerate()
        .filter(|(_, window)| *window == MARK.as_bytes())
        .map(|(at, _)| at)
        .collect();
    match found[..] {
        [at] if at + PLACE_BYTES <= template.len() => Ok(at),
        _ => Err(format!("customer.wasm has {} places for a policy instead of one", found.len())),
    }
}

/// What was agreed with one of them: made up, but the same for the same number.
struct Customer {
    number: u32,
    name: String,
}

impl Customer {
    fn of(number: u32) -> Self {
        Self { number, name: format!("customer-{number:05}") }
    }

    fn host(&self) -> String {
        format!("{}.gateway.example", self.name)
    }

    /// A key for trying it out. A real one is random, and given out once.
    fn key(&self) -> String {
        hex(&Sha256::digest(format!("the key of {}", self.name))[..16])
    }

    /// Customers differ in what they may ask for, how often, and what a request has to look like.
    fn policy(&self) -> String {
        let heaviest = 1_000 * (1 + self.number % 30);
        let scopes = if self.number.is_multiple_of(10) { "zones:read" } else { "quotes:write zones:read" };
        let rate = [60, 600, 6_000][self.number as usize % 3];
        format!(
            "name {}\nkey main {} {scopes}\nrate {rate} 60\nschema POST /quotes {{\"type\":\"object\",\
             \"required\":[\"country\",\"grams\"],\"additionalProperties\":false,\"properties\":{{\
             \"country\":{{\"type\":\"string\",\"minLength\":2,\"maxLength\":2}},\
             \"grams\":{{\"type\":\"integer\",\"minimum\":1,\"maximum\":{heaviest}}},\
             \"express\":{{\"type\":\"boolean\"}}}}}}\n",
            self.name,
            hex(&Sha256::digest(self.key())),
        )
    }

    /// The component with this customer's policy in its place.
    fn component(&self, template: &[u8], place: usize) -> Result<Vec<u8>, String> {
        let policy = self.policy();
        if MARK.len() + policy.len() > PLACE_BYTES {
            return Err(format!("the policy of {} is too long for its place", self.name));
        }
        let mut component = template.to_vec();
        let text = &mut component[place + MARK.len()..place + PLACE_BYTES];
        text.fill(b'\n');
        text[..policy.len()].copy_from_slice(policy.as_bytes());
        Ok(component)
    }

    fn manifest(&self) -> String {
        let Self { name, .. } = self;
        let host = self.host();
        format!(
            r#"# Made by `fleet`.
name = "api-gateway"

[deploy]
tenant = "{name}"
routes = ["{host}/*"]
health = "/health"

[component.customer]
path = "customer.wasm"

[component.auth]
path = "../../shared/auth.wasm"

[component.auth.imports]
"demo:gateway/keys" = {{ component = "customer" }}

[component.limiter]
path = "../../shared/limiter.wasm"

[component.limiter.imports]
"demo:gateway/rate" = {{ component = "customer" }}

[component.limiter.grants]
"wasi:keyvalue" = [{{ bucket = "rate", access = "write" }}]

[component.validator]
path = "../../shared/validator.wasm"

[component.validator.imports]
"demo:gateway/schemas" = {{ component = "customer" }}

[component.quotes]
path = "../../shared/quotes.wasm"

[component.gateway]
path = "../../shared/gateway.wasm"

[component.gateway.imports]
"demo:gateway/identity" = {{ component = "customer" }}
"demo:gateway/auth" = {{ component = "auth" }}
"demo:gateway/limiter" = {{ component = "limiter" }}
"demo:gateway/validator" = {{ component = "validator" }}
"demo:gateway/quotes" = {{ component = "quotes" }}

[limits]
wall = "2s"
cpu = "50ms"
memory = "16MiB"
request-body = "64KiB"
"#
        )
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("{}: {error}; has `tenon build` been run?", file.display()))
}

fn write(file: &Path, bytes: &[u8]) -> Result<(), String> {
    let folder = file.parent().map(PathBuf::from).unwrap_or_default();
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(file, bytes))
        .map_err(|error| format!("{}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template() -> Vec<u8> {
        let mut template = b"before ".to_vec();
        template.extend_from_slice(MARK.as_bytes());
        template.resize("before ".len() + PLACE_BYTES, b'\n');
        template.extend_from_slice(b" after");
        template
    }

    #[test]
    fn only_the_place_changes_and_no_two_are_alike() {
        let template = template();
        let at = find(&template).expect("one place");
        let made: Vec<_> =
            (1..=50).map(|number| Customer::of(number).component(&template, at).expect("it fits")).collect();
        for (index, one) in made.iter().enumerate() {
            assert_eq!(one.len(), template.len());
            assert!(one.starts_with(b"before demo:gateway/customer") && one.ends_with(b"\n after"));
            assert!(made[..index].iter().all(|other| other != one));
        }
    }

    #[test]
    fn a_template_has_one_place() {
        assert!(find(b"none").is_err());
        assert!(find(&[template(), template()].concat()).is_err());
        assert!(find(MARK.as_bytes()).is_err(), "it is cut off");
    }
}
