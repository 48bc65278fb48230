//! The client of a node's admin API.

mod address;
mod upload;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tenon_model::{Diagnostic, Diagnostics, Location};
use tenon_node::wire::Problem;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::args::ClientArgs;
use crate::error::CommandError;
use crate::settings::Settings;

pub(crate) use address::Address;

/// Where a node's admin API is unless somebody says otherwise.
const USUAL: &str = "http://127.0.0.1:8081";
/// The token that a node makes at its first start, in its data directory.
const FIRST_TOKEN: &str = "node/admin-token";
/// A token is shorter than this.
const TOKEN_BYTES_MAX: u64 = 1 << 10;
/// How long a node may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may take to answer: a deploy compiles, which for a language runtime takes most of a minute.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(600);
/// The largest answer that is read whole.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// How often a request is sent again that the node had no time for.
const BUSY_RETRIES: u32 = 20;
/// What is refused because others are at it. Their turn ends, so it is waited for as long as for an answer.
const OF_A_LINE: [&str; 3] = ["deploy-busy", "admin-busy", "admin-full"];
/// Codes with which a node refuses requests for apps that it has not: who reads them asked another address than the admin API's.
const OF_THE_EDGE: [&str; 2] = ["not-ready", "no-route"];
/// The longest that is waited for that.
const BUSY_WAIT_MAX: Duration = Duration::from_secs(10);

/// A node, and who talks to it.
pub(crate) struct Admin {
    runtime: tokio::runtime::Runtime,
    address: Address,
    token: String,
    tls: Option<TlsConnector>,
}

/// What a node answered, read to its end.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Admin {
    /// Finds out which node, and as whom; does not ask it anything yet.
    pub(crate) fn open(args: &ClientArgs, settings: &Settings) -> Result<Self, CommandError> {
        let written = args.node.as_deref().or(settings.node.as_deref()).unwrap_or(USUAL);
        let address: Address = written.parse()?;
        let token = token(args, settings, &address)?;
        if !args.plain_http {
            keep_from_others(&address)?;
        }
        let tls = if address.is_tls { Some(connector(args.ca.as_deref())?) } else { None };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| CommandError::ours("the client could not start", &error))?;
        Ok(Self { runtime, address, token, tls })
    }

    /// `GET path`.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CommandError> {
        self.parsed(path, self.exchange(Method::GET, path, Bytes::new(), &[])?)
    }

    /// Sends `body` as JSON.
    pub(crate) fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CommandError> {
        let body = serde_json::to_vec(body)
            .map_err(|error| CommandError::ours("the request cannot be written as JSON", &error))?;
        let json = [(CONTENT_TYPE.as_str(), "application/json".to_owned())];
        self.parsed(path, self.exchange(method, path, body.into(), &json)?)
    }

    /// `DELETE path`.
    pub(crate) fn delete(&self, path: &str) -> Result<(), CommandError> {
        let answer = self.exchange(Method::DELETE, path, Bytes::new(), &[])?;
        self.accepted(path, answer).map(|_| ())
    }

    /// Hands each line of the answer to `line`, as it comes, until the node ends it or `line` says that it is enough.
    pub(crate) fn lines(
        &self,
        path: &str,
        mut line: impl FnMut(&str) -> std::ops::ControlFlow<()>,
    ) -> Result<(), CommandError> {
        self.runtime.block_on(async {
            let response = self.request(Method::GET, path, Bytes::new(), &[]).await?;
            if !response.status().is_success() {
                let answer = whole(response).await.map_err(|error| self.broken(&error))?;
                return self.accepted(path, answer).map(|_| ());
            }
            let mut body = response.into_body();
            let mut rest: Vec<u8> = Vec::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| self.broken(&error))?;
                rest.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let one: Vec<u8> = rest.drain(..=end).collect();
                    if line(String::from_utf8_lossy(&one).trim_end()).is_break() {
                        return Ok(());
                    }
                }
                if rest.len() > ANSWER_BYTES_MAX {
                    return Err(self.broken(&std::io::Error::other("a line has no end")));
                }
            }
            Ok(())
        })
    }

    fn parsed<T: DeserializeOwned>(&self, path: &str, answer: Answer) -> Result<T, CommandError> {
        let answer = self.accepted(path, answer)?;
        serde_json::from_slice(&answer.body).map_err(|error| {
            Diagnostic::new(
                "not-a-node",
                format!("what answers at {} is no node of this version: {error}", self.address),
            )
            .mend("check the URL; and that node and client are of one version: `tenon --version`")
            .into()
        })
    }

    fn accepted(&self, path: &str, answer: Answer) -> Result<Answer, CommandError> {
        if answer.status.is_success() {
            return Ok(answer);
        }
        let problem = serde_json::from_slice::<Problem>(&answer.body);
        // What answers strangers' requests for apps says so in problems of its own.
        let Some(problem) = problem.ok().filter(|problem| !OF_THE_EDGE.contains(&problem.code.as_str()))
        else {
            let what = format!("{} answered {path} with {}", self.address, answer.status);
            return Err(Diagnostic::new("not-a-node", what)
                .mend("check the URL: it is that of the admin API, `--admin` of `tenon node`")
                .into());
        };
        let is_ours = problem.status >= 500 && problem.status != 503 && problem.status != 507;
        let mut found = Vec::new();
        collect(problem, &mut found);
        if is_ours && let Some(first) = found.first() {
            return Err(CommandError::Ours(first.clone()));
        }
        match Diagnostics::check(found) {
            Err(found) => Err(CommandError::Person(found)),
            Ok(()) => Err(self.broken(&std::io::Error::other("a refusal without a reason"))),
        }
    }

    /// One exchange; sent again when the node says that it has no time now.
    fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        headers: &[(&str, String)],
    ) -> Result<Answer, CommandError> {
        let began = Instant::now();
        let mut tries = 0;
        loop {
            let answer = self.runtime.block_on(self.once(method.clone(), path, body.clone(), headers))?;
            let Some(wait) = asked_to_wait(&answer) else { return Ok(answer) };
            let goes_on = match OF_A_LINE.contains(&code(&answer).as_str()) {
                true => began.elapsed() < ANSWER_TIMEOUT,
                false => tries < BUSY_RETRIES,
            };
            if !goes_on {
                return Ok(answer);
            }
            tries += 1;
            std::thread::sleep(wait.min(BUSY_WAIT_MAX));
        }
    }

    async fn once(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        headers: &[(&str, String)],
    ) -> Result<Answer, CommandError> {
        let answered = async {
            let response = self.request(method, path, body, headers).await?;
            whole(response).await.map_err(|error| self.broken(&error))
        };
        match tokio::time::timeout(ANSWER_TIMEOUT, answered).await {
            Ok(answer) => answer,
            Err(_) => Err(self.broken(&std::io::Error::other("no answer came in ten minutes"))),
        }
    }

    /// Connects, sends, and gives back the answer's head; its body may still come.
    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        headers: &[(&str, String)],
    ) -> Result<Response<Incoming>, CommandError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, self.address.authority())
            .header(AUTHORIZATION, format!("Bearer {}", self.token));
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(body)).map_err(|error| {
            CommandError::from(Diagnostic::new("invalid-token", format!("the token cannot be sent: {error}")))
        })?;
        let (host, port) = (self.address.host.as_str(), self.address.port);
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect((host, port))).await;
        let stream = match connected {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(self.unreachable(&error.to_string())),
            Err(_) => return Err(self.unreachable("nothing answers")),
        };
        // Small requests and answers: each is to go out at once.
        let _ = stream.set_nodelay(true);
        match &self.tls {
            None => converse(stream, request).await.map_err(|error| self.broken(&error)),
            Some(tls) => {
                let name = ServerName::try_from(host.to_owned()).map_err(|error| {
                    self.unreachable(&format!("`{host}` cannot have a certificate: {error}"))
                })?;
                let stream = tls.connect(name, stream).await.map_err(|error| self.untrusted(&error))?;
                converse(stream, request).await.map_err(|error| self.broken(&error))
            }
        }
    }

    fn unreachable(&self, cause: &str) -> CommandError {
        Diagnostic::new("node-unreachable", format!("there is no node at {}: {cause}", self.address))
            .mend("start one with `tenon node`, or name another with `--node URL` or TENON_NODE")
            .into()
    }

    fn untrusted(&self, error: &std::io::Error) -> CommandError {
        Diagnostic::new("node-untrusted", format!("{} cannot be trusted: {error}", self.address))
            .mend("if its certificate is of an authority of your own, name that with `--ca FILE`")
            .into()
    }

    fn broken(&self, error: &dyn std::error::Error) -> CommandError {
        Diagnostic::new("node-connection", format!("the connection to {} broke", self.address))
            .note("cause", chain(error))
            .mend("try again: what was done already is not done twice")
            .into()
    }
}

async fn converse<S>(stream: S, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // How the connection ended is told by the exchange on it.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    sender.send_request(request).await
}

async fn whole(response: Response<Incoming>) -> Result<Answer, std::io::Error> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(std::io::Error::other)?;
    Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
}

/// How long a node that has no time now wants to be left alone.
fn asked_to_wait(answer: &Answer) -> Option<Duration> {
    const FOR_NOW: [StatusCode; 2] = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
    if !FOR_NOW.contains(&answer.status) {
        return None;
    }
    let seconds = answer.headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).max(Duration::from_millis(50)))
}

/// What is wrong, in one word; empty where the answer does not say it.
fn code(answer: &Answer) -> String {
    serde_json::from_slice::<Problem>(&answer.body).map_or_else(|_| String::new(), |problem| problem.code)
}

/// A problem and what was found with it, as diagnostics.
fn collect(problem: Problem, found: &mut Vec<Diagnostic>) {
    // A code is a name known from the start to whoever wrote the node, and a word from far away here; a command ends
    // with these.
    let mut diagnostic = Diagnostic::new(problem.code.leak(), problem.title);
    for note in problem.notes {
        // The node says where as a note; here it is where.
        diagnostic = match note.label.as_str() {
            "at" => diagnostic.at(Location::file(note.text)),
            _ => diagnostic.note(note.label, note.text),
        };
    }
    if let Some(mend) = problem.mend {
        diagnostic = diagnostic.mend(mend);
    }
    found.push(diagnostic);
    for more in problem.more {
        collect(more, found);
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// The token: from a file that was named, from the environment, or the first one of a node on this machine.
fn token(args: &ClientArgs, settings: &Settings, address: &Address) -> Result<String, CommandError> {
    let read = |file: &Path| -> Result<String, Diagnostic> {
        let bytes = crate::project::read(file, TOKEN_BYTES_MAX)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    if let Some(file) = &args.token_file {
        return Ok(read(file)?);
    }
    if let Some(token) = &settings.token {
        return Ok(token.trim().to_owned());
    }
    let first = settings.data.join(FIRST_TOKEN);
    if address.is_this_machine() && first.is_file() {
        return Ok(read(&first)?);
    }
    Err(Diagnostic::new("no-token", format!("{address} asks who you are, and there is no token"))
        .mend(format!(
            "set TENON_TOKEN, or name a file with `--token-file FILE`; a node writes its first token to `{FIRST_TOKEN}` in its \
             data directory"
        ))
        .into())
}

/// A token is a secret: on another machine's address, only what is encrypted keeps it one.
fn keep_from_others(address: &Address) -> Result<(), Diagnostic> {
    if address.is_tls || address.is_this_machine() {
        return Ok(());
    }
    let said = format!("the token would go to {address} in clear, and whoever is on the way could use it");
    let Address { host, port, .. } = address;
    Err(Diagnostic::new("token-in-clear", said).mend(format!(
        "serve the admin API over TLS (`tenon node --admin-tls CERT KEY`) and write `https://`; or go through a tunnel, \
         `ssh -N -L {port}:127.0.0.1:{port} {host}`, to `http://127.0.0.1:{port}`; or, in a network that nobody else is in, say \
         `--plain-http`"
    )))
}

/// Trusts what the system trusts, or one authority.
pub(crate) fn connector(authority: Option<&Path>) -> Result<TlsConnector, CommandError> {
    let mut roots = RootCertStore::empty();
    match authority {
        None => {
            for certificate in rustls_native_certs::load_native_certs().certs {
                // One that cannot be read is one less to trust.
                let _ = roots.add(certificate);
            }
        }
        Some(file) => {
            let invalid = |why: String| {
                Diagnostic::new("invalid-certificate", format!("`{}`: {why}", file.display()))
                    .at(Location::file(file.display().to_string()))
                    .mend("name a PEM file with the authority's certificate")
            };
            let certificates =
                CertificateDer::pem_file_iter(file).map_err(|error| invalid(error.to_string()))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
                roots.add(certificate).map_err(|error| invalid(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(invalid("there is no certificate in it".to_owned()).into());
            }
        }
    }
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| CommandError::ours("TLS could not be set up", &error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_in_clear_to_this_machine_alone() {
        let kept = |node: &str| keep_from_others(&node.parse().unwrap()).map_err(|said| said.code);
        for node in [
            "http://127.0.0.1:8081",
            "http://[::1]:8081",
            "http://localhost:8081",
            "https://edge.example:8081",
        ] {
            assert_eq!(kept(node), Ok(()), "{node}");
        }
        for node in [
            "http://edge.example:8081",
            "http://10.0.0.1:8081",
            "http://localhost.example",
            "http://[::]:8081",
        ] {
            assert_eq!(kept(node), Err("token-in-clear"), "{node}");
        }
        let said = keep_from_others(&"http://edge.example:8081".parse().unwrap()).unwrap_err();
        let mend = said.mend.unwrap();
        for way in ["--admin-tls", "ssh -N -L 8081:127.0.0.1:8081 edge.example", "--plain-http"] {
            assert!(mend.contains(way), "{mend}");
        }
    }
}
