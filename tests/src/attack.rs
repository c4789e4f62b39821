//! Hostile RTMP peers: they go as far as the case says, send its bytes, and tell what became of the connection.

use std::time::Duration;

use rtmp::client::Client;
use rtmp::kind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The node's longest own deadline (30 s of silence while publishing) and what a busy machine adds to it.
pub const LONGEST: Duration = Duration::from_secs(45);
/// Answers that are remembered, in bytes; hostile peers cause more.
const REMEMBERED: usize = 64 * 1024;
/// What a ping carries, so that its answer is not taken for anything else.
const TOKEN: [u8; 4] = [0xde, 0xca, 0xde, 0x01];

/// How far the peer behaves before it attacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum After {
    /// A bare TCP connection.
    Nothing,
    /// The handshake is done.
    Handshake,
    /// `connect` is answered.
    Connect,
    /// `publish` is accepted, under a stream name of its own.
    Publish,
}

/// What has to become of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The node closes it because of what it read.
    Closed,
    /// The same, and it says these words before.
    Told(&'static str),
    /// The node closes it when its patience ends.
    TimesOut,
    /// It is served on: a ping is answered.
    Served,
    /// The peer leaves without a word.
    Leaves,
}

/// One attack.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it is.
    pub name: String,
    /// When it begins.
    pub after: After,
    /// What it sends.
    pub bytes: Vec<u8>,
    /// Bytes per write; everything at once if zero.
    pub step: usize,
    /// What has to become of it.
    pub outcome: Outcome,
}

/// An attack that sends its bytes at once.
pub fn case(name: impl Into<String>, after: After, bytes: impl Into<Vec<u8>>, outcome: Outcome) -> Case {
    Case { name: name.into(), after, bytes: bytes.into(), step: 0, outcome }
}

impl Case {
    /// The same, `step` bytes per write.
    pub fn in_steps_of(mut self, step: usize) -> Self {
        self.step = step;
        self
    }

    /// Plays it against the RTMP listener at `address`, publishing as `stream` if it comes to that.
    ///
    /// # Errors
    /// What became of the connection, when it is not the outcome of the case.
    pub async fn play(&self, address: &str, domain: &str, stream: &str) -> Result<(), String> {
        let mut peer = Peer::reach(address, domain, stream, self.after).await?;
        let step = if self.step == 0 { self.bytes.len().max(1) } else { self.step };
        for part in self.bytes.chunks(step) {
            peer.send(part).await;
        }
        match self.outcome {
            Outcome::Leaves => Ok(()),
            Outcome::Served => peer.is_served().await,
            Outcome::Closed | Outcome::TimesOut => peer.ended().await,
            Outcome::Told(words) => {
                peer.ended().await?;
                let heard = peer.heard_text();
                if heard.contains(words) { Ok(()) } else { Err(format!("closed, but with the words {heard:?}")) }
            }
        }
    }
}

/// One connection to the node.
#[derive(Debug)]
pub struct Peer {
    socket: TcpStream,
    heard: Vec<u8>,
    is_closed: bool,
}

impl Peer {
    /// A bare TCP connection.
    ///
    /// # Errors
    /// The node does not take it.
    pub async fn connect(address: &str) -> Result<Self, String> {
        let socket = TcpStream::connect(address).await.map_err(|error| format!("connect: {error}"))?;
        socket.set_nodelay(true).map_err(|error| format!("nodelay: {error}"))?;
        Ok(Self { socket, heard: Vec::new(), is_closed: false })
    }

    /// A connection that has behaved so far.
    ///
    /// # Errors
    /// The node did not answer a well-behaved peer.
    pub async fn reach(address: &str, domain: &str, stream: &str, after: After) -> Result<Self, String> {
        let mut peer = Self::connect(address).await?;
        peer.behave(domain, stream, after).await?;
        Ok(peer)
    }

    /// Takes a bare connection as far as `after`.
    ///
    /// # Errors
    /// The node did not answer a well-behaved peer.
    pub async fn behave(&mut self, domain: &str, stream: &str, after: After) -> Result<(), String> {
        let client = Client::new();
        if after >= After::Handshake {
            self.send(&client.handshake()).await;
            self.hear_bytes(1 + 2 * 1536).await?;
        }
        if after >= After::Connect {
            self.send(&client.connect("live", &format!("rtmp://{domain}/live"))).await;
            self.hear(b"NetConnection.Connect.Success").await?;
        }
        if after >= After::Publish {
            self.send(&[client.create_stream(stream), client.publish(stream)].concat()).await;
            self.hear(b"NetStream.Publish.Start").await?;
        }
        Ok(())
    }

    /// Sends as long as the node takes it, and reads meanwhile.
    pub async fn send(&mut self, bytes: &[u8]) {
        let Self { socket, heard, is_closed } = self;
        let (mut reader, mut writer) = socket.split();
        let write = writer.write_all(bytes);
        tokio::pin!(write);
        let mut buffer = [0; 16 * 1024];
        while !*is_closed {
            tokio::select! {
                outcome = &mut write => {
                    *is_closed = outcome.is_err();
                    break;
                }
                read = reader.read(&mut buffer) => *is_closed = !note(heard, &buffer, read),
            }
        }
    }

    /// Whether the node has closed the connection, as far as was read.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Sends and reads nothing.
    ///
    /// # Errors
    /// The node does not take it any more.
    pub async fn send_deaf(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.socket.write_all(bytes).await
    }

    /// Reads until `words` came.
    ///
    /// # Errors
    /// The node closed the connection, or said nothing.
    pub async fn hear(&mut self, words: &[u8]) -> Result<(), String> {
        self.listen(|heard| heard.windows(words.len()).any(|window| window == words)).await.map_err(|problem| {
            format!("{problem} before {:?}; heard {:?}", String::from_utf8_lossy(words), self.heard_text())
        })
    }

    async fn hear_bytes(&mut self, count: usize) -> Result<(), String> {
        self.listen(|heard| heard.len() >= count).await.map_err(|problem| format!("{problem} in the handshake"))?;
        self.heard.clear();
        Ok(())
    }

    async fn listen(&mut self, enough: impl Fn(&[u8]) -> bool) -> Result<(), &'static str> {
        let Self { socket, heard, is_closed } = self;
        let mut buffer = [0; 16 * 1024];
        let listen = async {
            while !enough(heard) {
                if *is_closed {
                    return Err("closed");
                }
                let read = socket.read(&mut buffer).await;
                *is_closed = !note(heard, &buffer, read);
            }
            Ok(())
        };
        timeout(LONGEST, listen).await.unwrap_or(Err("silence"))
    }

    /// Waits until the node has closed the connection.
    ///
    /// # Errors
    /// It has not.
    pub async fn ended(&mut self) -> Result<(), String> {
        match self.listen(|_| false).await {
            Err("closed") => Ok(()),
            _ => Err(format!("still open after {LONGEST:?}; heard {:?}", self.heard_text())),
        }
    }

    /// Asks for a sign of life.
    ///
    /// # Errors
    /// There is none.
    pub async fn is_served(&mut self) -> Result<(), String> {
        self.heard.clear();
        let ping = Client::new().control(kind::USER_CONTROL, &[&[0, 6][..], &TOKEN].concat());
        self.send(&ping).await;
        self.hear(&[&[0, 7][..], &TOKEN].concat()).await.map_err(|problem| format!("not served: {problem}"))
    }

    /// What the node said, as text.
    pub fn heard_text(&self) -> String {
        String::from_utf8_lossy(&self.heard).chars().filter(|letter| !letter.is_control()).collect()
    }
}

/// Remembers the end of what was read; false when nothing more will come.
fn note(heard: &mut Vec<u8>, buffer: &[u8], read: std::io::Result<usize>) -> bool {
    let Ok(count @ 1..) = read else { return false };
    heard.extend_from_slice(&buffer[..count]);
    let excess = heard.len().saturating_sub(REMEMBERED);
    heard.drain(..excess);
    true
}
