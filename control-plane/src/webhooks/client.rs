//! One attempt: a POST to a receiver that may be hostile. Bounded in time by the webhook's timeout, in memory by small
//! buffers; only addresses that the policy admits are connected to, and redirects are not followed.
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{HeaderValue, LOCATION};
use hyper::{HeaderMap, Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OnceCell, Semaphore};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::Policy;
use super::schedule::Answer;

/// Names looked up at the same time; the system's resolver cannot be told to stop.
const LOOKUPS: usize = 16;
/// Addresses of one receiver that are tried in turn.
const ADDRESSES: usize = 3;
/// Longest wait for one of them to take the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Most bytes of status line and headers that are read.
const HEAD_BYTES: usize = 16 * 1024;
/// Most headers that are read.
const HEADERS: usize = 100;
/// Bytes of a refusal that are read, to be shown.
const EXCERPT_BYTES: usize = 512;
/// How long they are waited for.
const EXCERPT_TIMEOUT: Duration = Duration::from_secs(1);
/// Characters of it that are shown.
const SHOWN: usize = 200;

/// What is sent.
#[derive(Clone)]
pub struct Call {
    /// Where to.
    pub url: Uri,
    /// Every header but `host` and `content-length`.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// How long the whole attempt may take.
    pub timeout: Duration,
}

impl std::fmt::Debug for Call {
    // Headers may hold the receiver's secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("url", &self.url.host()).field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

/// Makes attempts. Clones share everything.
#[derive(Clone)]
pub struct Client {
    policy: Arc<Policy>,
    tls: Arc<OnceCell<TlsConnector>>,
    lookups: Arc<Semaphore>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Client {
    /// A client under a policy.
    pub fn new(policy: Policy) -> Self {
        Self { policy: Arc::new(policy), tls: Arc::default(), lookups: Arc::new(Semaphore::new(LOOKUPS)) }
    }

    /// What receivers may be.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Makes one attempt.
    pub async fn post(&self, call: Call) -> Answer {
        let timeout = call.timeout;
        match tokio::time::timeout(timeout, self.attempt(call)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(why)) => Answer::Nothing(why),
            Err(_) => Answer::Nothing(format!("no answer within {}", recorder_proto::time::text(timeout))),
        }
    }

    async fn attempt(&self, call: Call) -> Result<Answer, String> {
        let secure = match call.url.scheme_str() {
            Some("https") => true,
            Some("http") if self.policy.http => false,
            _ => return Err("only https:// is allowed by this server's settings".to_owned()),
        };
        let host = call.url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = call.url.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let addresses = self.admitted(&host, port).await?;
        let stream = connect(&addresses).await?;
        if !secure {
            return exchange(stream, call).await;
        }
        let tls = self.tls().await?;
        let name = ServerName::try_from(host).map_err(|_| "the host of the URL is no name".to_owned())?;
        let stream = tls.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
        exchange(stream, call).await
    }

    /// The addresses of a host that the policy admits. What is checked here is what is connected to: a name that changes
    /// its address meanwhile gains nothing.
    async fn admitted(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        let found = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => self.lookup(host, port).await?,
        };
        let admitted: Vec<SocketAddr> =
            found.iter().copied().filter(|address| self.policy.networks.admit(address.ip())).collect();
        match (found.first(), admitted.is_empty()) {
            (None, _) => Err(format!("{host} has no address")),
            (Some(refused), true) => Err(refusal(refused.ip())),
            (Some(_), false) => Ok(admitted),
        }
    }

    async fn lookup(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
        let permit = Arc::clone(&self.lookups).acquire_owned().await.map_err(|error| error.to_string())?;
        let name = host.to_owned();
        // In a task of its own: the permit is held until the resolver answers, even when nobody waits for it any more.
        let looking = tokio::spawn(async move {
            let found = tokio::net::lookup_host((name, port)).await.map(Iterator::collect);
            drop(permit);
            found
        });
        let found = looking.await.map_err(|error| error.to_string())?;
        found.map_err(|error| format!("{host} cannot be looked up: {error}"))
    }

    async fn tls(&self) -> Result<TlsConnector, String> {
        let make = async || {
            let file = self.policy.ca_file.clone();
            let made = tokio::task::spawn_blocking(move || super::tls::connector(file.as_deref()));
            made.await.map_err(|error| error.to_string())?
        };
        self.tls.get_or_try_init(make).await.cloned()
    }
}

/// Why an address is not connected to.
pub fn refusal(address: IpAddr) -> String {
    format!("{address} is not a public address; webhooks.networks names the private ones that are allowed")
}

async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, String> {
    let mut why = "no address".to_owned();
    for address in addresses.iter().take(ADDRESSES) {
        match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => why = format!("{address}: {error}"),
            Err(_) => why = format!("{address}: no connection within {}s", CONNECT_TIMEOUT.as_secs()),
        }
    }
    Err(why)
}

async fn exchange(stream: impl AsyncRead + AsyncWrite + Unpin, call: Call) -> Result<Answer, String> {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES).max_headers(HEADERS);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let request = request(call)?;
    let asking = async move {
        let response = sender.send_request(request).await.map_err(failed)?;
        Ok(judge(response).await)
    };
    // Driven here and not in a task: whatever ends this attempt closes the connection.
    tokio::pin!(asking, connection);
    tokio::select! {
        biased;
        answer = &mut asking => return answer,
        _ = &mut connection => {}
    }
    // What the connection has read is still to be looked at; its end is the end of that.
    asking.await
}

fn failed(error: hyper::Error) -> String {
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    format!("{error}{cause}")
}

fn request(call: Call) -> Result<Request<Full<Bytes>>, String> {
    let target = call.url.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let authority = call.url.authority().map(ToString::to_string).unwrap_or_default();
    let mut request = Request::new(Full::new(call.body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = target.parse().map_err(|_| "the URL has no sound path".to_owned())?;
    *request.headers_mut() = call.headers;
    let host = HeaderValue::from_str(&authority).map_err(|_| "the URL has no sound host".to_owned())?;
    request.headers_mut().insert(hyper::header::HOST, host);
    request.headers_mut().insert(hyper::header::CONNECTION, HeaderValue::from_static("close"));
    Ok(request)
}

/// The answer, in one line. Of a success nothing more is read; of a refusal its first words.
async fn judge(response: Response<Incoming>) -> Answer {
    let code = response.status().as_u16();
    if response.status().is_success() {
        return Answer::Status { code, why: String::new() };
    }
    let why = match response.headers().get(LOCATION) {
        Some(target) if response.status().is_redirection() => {
            let target = printable(target.as_bytes());
            format!("answered {code} towards {target}; redirects are not followed")
        }
        _ => match excerpt(response.into_body()).await.as_str() {
            "" => format!("answered {code}"),
            words => format!("answered {code}: {words}"),
        },
    };
    Answer::Status { code, why }
}

async fn excerpt(mut body: Incoming) -> String {
    let mut read = Vec::new();
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            let Ok(mut data) = frame.into_data() else { continue };
            let wanted = EXCERPT_BYTES.saturating_sub(read.len()).min(data.remaining());
            read.extend_from_slice(&data.copy_to_bytes(wanted));
            if read.len() >= EXCERPT_BYTES {
                return;
            }
        }
    };
    // What came in time is enough.
    let _ = tokio::time::timeout(EXCERPT_TIMEOUT, reading).await;
    printable(&read)
}

fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let plain = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.take(SHOWN).collect::<String>().trim().to_owned()
}
