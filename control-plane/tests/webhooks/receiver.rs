//! A receiver that does as it is told, however badly.
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::link::control::PATIENCE;

/// How a request is answered.
#[derive(Debug, Clone)]
pub enum Manner {
    /// With a status and nothing else.
    Status(u16),
    /// With a status and some words.
    Words(u16, String),
    /// Elsewhere.
    Redirect(String),
    /// One byte of a header at a time, for ever.
    Drip,
    /// A status and a body without end.
    Flood(u16),
    /// Headers without end.
    Headers,
    /// By hanging up.
    HangUp,
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Seen {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

pub struct Receiver {
    pub address: SocketAddr,
    seen: mpsc::UnboundedReceiver<Seen>,
    /// Bytes of answers that the other side took.
    pub sent: Arc<AtomicUsize>,
    /// Connections that are open.
    pub open: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Receiver {
    /// Answers every request as the closure says.
    pub async fn start(manner: impl Fn(&Seen) -> Manner + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, seen) = mpsc::unbounded_channel();
        let (sent, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (manner, counters) = (Arc::new(manner), (Arc::clone(&sent), Arc::clone(&open)));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tell, manner, (sent, open)) = (tell.clone(), Arc::clone(&manner), counters.clone());
                tokio::spawn(async move {
                    open.fetch_add(1, Ordering::SeqCst);
                    serve(stream, &*manner, &tell, &sent).await;
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, seen, sent, open, task }
    }

    pub async fn always(manner: Manner) -> Self {
        Self::start(move |_| manner.clone()).await
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The next request.
    pub async fn next(&mut self) -> Seen {
        tokio::time::timeout(PATIENCE, self.seen.recv()).await.expect("a delivery in time").unwrap()
    }

    /// What came and was not asked for yet.
    pub fn rest(&mut self) -> Vec<Seen> {
        std::iter::from_fn(|| self.seen.try_recv().ok()).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    manner: &(impl Fn(&Seen) -> Manner + ?Sized),
    tell: &mpsc::UnboundedSender<Seen>,
    sent: &AtomicUsize,
) {
    let Some(seen) = read(&mut stream).await else { return };
    let how = manner(&seen);
    let _ = tell.send(seen);
    // The other side may hang up whenever it has had enough.
    let _ = match how {
        Manner::Status(code) => stream.write_all(answer(code, "").as_bytes()).await,
        Manner::Words(code, words) => stream.write_all(answer(code, &words).as_bytes()).await,
        Manner::Redirect(to) => {
            let text = format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(text.as_bytes()).await
        }
        Manner::Drip => drip(&mut stream).await,
        Manner::Flood(code) => {
            let head = format!("HTTP/1.1 {code} X\r\nContent-Length: 1073741824\r\n\r\n");
            flood(&mut stream, &head, &[b'x'; 65_536], sent).await
        }
        Manner::Headers => {
            flood(&mut stream, "HTTP/1.1 200 OK\r\n", "X-Padding: yyyyyyyy\r\n".repeat(1000).as_bytes(), sent).await
        }
        Manner::HangUp => Ok(()),
    };
}

fn answer(code: u16, words: &str) -> String {
    format!("HTTP/1.1 {code} X\r\nContent-Length: {}\r\n\r\n{words}", words.len())
}

async fn drip(stream: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
    for byte in b"HTTP/1.1 200 OK\r\nX-Slow: ".iter().chain(std::iter::repeat(&b'z')) {
        stream.write_all(&[*byte]).await?;
        stream.flush().await?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn flood(
    stream: &mut (impl AsyncWrite + Unpin),
    head: &str,
    chunk: &[u8],
    sent: &AtomicUsize,
) -> std::io::Result<()> {
    stream.write_all(head.as_bytes()).await?;
    for _ in 0..16_384 {
        stream.write_all(chunk).await?;
        sent.fetch_add(chunk.len(), Ordering::SeqCst);
    }
    Ok(())
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Seen> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let mut lines = head.lines();
    let first = lines.next()?.to_owned();
    assert!(first.starts_with("POST ") && first.ends_with(" HTTP/1.1"), "{first}");
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers.get("content-length")?.parse().ok()?;
    let mut body = bytes.split_off(end + 4);
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    let path = first.split(' ').nth(1)?.to_owned();
    Some(Seen { path, headers, body: String::from_utf8(body).ok()? })
}
