//! A slow road to a node, with what every system does at its end: once a publisher has closed its socket, the first byte
//! that is sent to it resets the connection, and whatever is still on its way is thrown away.
//!
//! On one machine the sockets of a connection hold megabytes and pass them on within milliseconds. On a real road that
//! takes seconds.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};

/// How often something goes on.
const TICK: Duration = Duration::from_millis(10);
/// Most of what is on its way waits here, not in the system.
const SEND_BUFFER: u32 = 16 * 1024;

/// Listens on a port of its own and takes connections to `node`, with so many bytes a second towards it. Ends with the
/// runtime.
pub async fn to(node: &str, bytes_per_second: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listener");
    let address = listener.local_addr().expect("address").to_string();
    let node: Arc<str> = node.into();
    tokio::spawn(async move {
        while let Ok((publisher, _)) = listener.accept().await {
            tokio::spawn(carry(publisher, Arc::clone(&node), bytes_per_second));
        }
    });
    address
}

async fn carry(publisher: TcpStream, node: Arc<str>, bytes_per_second: usize) {
    let socket = TcpSocket::new_v4().expect("socket");
    socket.set_send_buffer_size(SEND_BUFFER).expect("send buffer");
    let node = socket.connect(node.parse().expect("address")).await.expect("node");
    node.set_nodelay(true).expect("no delay");
    let (mut from_publisher, mut to_publisher) = publisher.into_split();
    let (mut from_node, mut to_node) = node.into_split();
    let (on_the_way, mut arrivals) = mpsc::unbounded_channel::<Vec<u8>>();
    let (close, closed) = watch::channel(false);
    let inwards = tokio::spawn(async move {
        let mut bytes = vec![0; 65_536];
        while let Ok(read @ 1..) = from_publisher.read(&mut bytes).await {
            let _ = on_the_way.send(bytes[..read].to_vec());
        }
        let _ = close.send(true);
    });
    let forwards = async {
        let step = bytes_per_second * TICK.as_millis() as usize / 1_000;
        while let Some(bytes) = arrivals.recv().await {
            for part in bytes.chunks(step) {
                tokio::time::sleep(TICK.mul_f64(part.len() as f64 / step as f64)).await;
                if to_node.write_all(part).await.is_err() {
                    return;
                }
            }
        }
        let _ = to_node.shutdown().await;
        // Until the node has closed too.
        std::future::pending().await
    };
    let back = async {
        let mut bytes = [0; 4_096];
        while let Ok(read @ 1..) = from_node.read(&mut bytes).await {
            if *closed.borrow() || to_publisher.write_all(&bytes[..read]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = forwards => {}
        () = back => {}
    }
    inwards.abort();
}
