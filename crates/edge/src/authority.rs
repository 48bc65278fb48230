//! Whom a request is for: one authority, wherever the protocol version puts it.

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderValue, Request, Version};
use tenon_engine::Failure;

/// Makes sure that a request names one authority, and writes it into `host`, where guests look for it.
///
/// An authority in the target wins over the header (RFC 9112, section 3.2.2); HTTP/1.1 without one, or with two, is
/// refused (section 3.2). HTTP/1.0 may go without: then it is the address that was connected to.
///
/// # Errors
/// When there is none, more than one, or one that is not an authority.
pub(crate) fn settle<B>(request: &mut Request<B>, local: &HeaderValue) -> Result<(), Failure> {
    let refused = |cause: &str| Err(Failure::BadRequest { cause: cause.to_owned() });
    let mut hosts = request.headers().get_all(HOST).iter();
    let (host, more) = (hosts.next(), hosts.next().is_some());
    if more {
        return refused("it has more than one host");
    }
    if let Some(authority) = request.uri().authority() {
        let Ok(host) = HeaderValue::from_str(authority.as_str()) else {
            return refused("the authority of its target is not text");
        };
        request.headers_mut().insert(HOST, host);
        return Ok(());
    }
    match host {
        Some(host) if Authority::try_from(host.as_bytes()).is_ok() => Ok(()),
        Some(_) => refused("its host is not an authority"),
        None if request.version() < Version::HTTP_11 => {
            request.headers_mut().insert(HOST, local.clone());
            Ok(())
        }
        None => refused("it has no host"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(version: Version, target: &str, hosts: &[&str]) -> Option<String> {
        let mut request = Request::builder().version(version).uri(target).body(()).unwrap();
        for host in hosts {
            request.headers_mut().append(HOST, host.parse().unwrap());
        }
        settle(&mut request, &HeaderValue::from_static("127.0.0.1:8080")).ok()?;
        Some(request.headers()[HOST].to_str().unwrap().to_owned())
    }

    #[test]
    fn one_authority_or_none_at_all() {
        let one = |text: &str| Some(text.to_owned());
        assert_eq!(settled(Version::HTTP_11, "/", &["a.example"]), one("a.example"));
        assert_eq!(settled(Version::HTTP_11, "http://b.example:81/x", &["a.example"]), one("b.example:81"));
        assert_eq!(settled(Version::HTTP_2, "http://b.example/", &[]), one("b.example"));
        assert_eq!(settled(Version::HTTP_10, "/", &[]), one("127.0.0.1:8080"));
        assert_eq!(settled(Version::HTTP_11, "/", &[]), None);
        assert_eq!(settled(Version::HTTP_11, "/", &["a.example", "b.example"]), None);
        assert_eq!(settled(Version::HTTP_11, "/", &["a b"]), None);
        assert_eq!(settled(Version::HTTP_11, "/", &[""]), None);
    }
}
