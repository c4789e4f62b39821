//! A TCP connection of one call from a node to the control plane, which tells what has passed and can keep the answers.
use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::control::PATIENCE;

/// What becomes of the messages of the control plane.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    Pass,
    /// They get no further; the connection stays open.
    Keep,
}

pub struct Proxy {
    /// For the node.
    pub address: SocketAddr,
    request: oneshot::Receiver<()>,
    answer: oneshot::Receiver<()>,
}

impl Proxy {
    pub async fn before(control: SocketAddr, answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ((requested, request), (answered, answer)) = (oneshot::channel(), oneshot::channel());
        tokio::spawn(async move {
            let (node, _) = listener.accept().await?;
            let control = TcpStream::connect(control).await?;
            node.set_nodelay(true)?;
            control.set_nodelay(true)?;
            let ((from_node, to_node), (from_control, to_control)) = (node.into_split(), control.into_split());
            // Each side ends on its own; how is of no interest, because one of them is about to be killed.
            let _ = tokio::join!(
                requests(from_node, to_control, requested),
                messages(from_control, to_node, answers, answered),
            );
            io::Result::Ok(())
        });
        Self { address, request, answer }
    }

    /// Waits until the control plane has been sent the first message of the call, all of it.
    pub async fn requested(&mut self) {
        passed(&mut self.request).await;
    }

    /// Waits until the control plane has sent its first message, all of it.
    pub async fn answered(&mut self) {
        passed(&mut self.answer).await;
    }
}

async fn passed(signal: &mut oneshot::Receiver<()>) {
    tokio::time::timeout(PATIENCE, signal).await.expect("a message in time").expect("the connection is open");
}

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, passed: oneshot::Sender<()>) -> io::Result<()> {
    // RFC 9113, 3.4: what a client says before its first frame.
    let mut preface = [0; 24];
    from.read_exact(&mut preface).await?;
    to.write_all(&preface).await?;
    messages(from, to, Answers::Pass, passed).await
}

/// Forwards frame by frame, and signals when the first message is through. HEADERS, SETTINGS and the like say nothing of
/// what has become of a report, so they always pass.
async fn messages(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    answers: Answers,
    passed: oneshot::Sender<()>,
) -> io::Result<()> {
    let (mut message, mut passed) = (Vec::new(), Some(passed));
    loop {
        let frame = Frame::read(&mut from).await?;
        // What comes after a kept message (the end of the stream among it) is kept as well.
        message.extend_from_slice(frame.data());
        if message.is_empty() || answers == Answers::Pass {
            to.write_all(&frame.0).await?;
        }
        if is_complete(&message) {
            passed.take().map(|passed| passed.send(()));
        }
    }
}

/// Whether there is a gRPC message: a flag, four bytes of length, and as many bytes.
fn is_complete(message: &[u8]) -> bool {
    message.split_at_checked(5).is_some_and(|(head, body)| {
        let length = u32::from_be_bytes(head[1..].try_into().unwrap());
        body.len() >= length as usize
    })
}

/// An HTTP/2 frame (RFC 9113, 4.1), head and payload.
struct Frame(Vec<u8>);

impl Frame {
    async fn read(from: &mut OwnedReadHalf) -> io::Result<Self> {
        let mut frame = vec![0; 9];
        from.read_exact(&mut frame).await?;
        let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]);
        frame.resize(9 + length as usize, 0);
        from.read_exact(&mut frame[9..]).await?;
        Ok(Self(frame))
    }

    /// The payload of a DATA frame; nothing of any other.
    fn data(&self) -> &[u8] {
        const DATA: u8 = 0;
        const PADDED: u8 = 8;
        if self.0[3] != DATA {
            return &[];
        }
        assert_eq!(self.0[4] & PADDED, 0, "neither side pads");
        &self.0[9..]
    }
}
