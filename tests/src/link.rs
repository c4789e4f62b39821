//! A node's way to the control plane, which can be closed and opened again: the node lives, and nobody hears of it.

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// See the module. Ends with the runtime.
pub struct Link {
    /// Where the node connects to.
    pub address: String,
    open: watch::Sender<bool>,
}

impl Link {
    /// A way to `control`, open.
    pub async fn to(control: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listener");
        let address = listener.local_addr().expect("address").to_string();
        let (open, is_open) = watch::channel(true);
        let control = control.to_owned();
        tokio::spawn(async move {
            while let Ok((node, _)) = listener.accept().await {
                tokio::spawn(carry(node, control.clone(), is_open.clone()));
            }
        });
        Self { address, open }
    }

    /// Breaks what is connected, and whatever tries to be.
    pub fn close(&self) {
        self.open.send_replace(false);
    }

    /// Lets connections through again.
    pub fn open(&self) {
        self.open.send_replace(true);
    }
}

async fn carry(mut node: TcpStream, control: String, mut is_open: watch::Receiver<bool>) {
    if !*is_open.borrow() {
        return;
    }
    let Ok(mut control) = TcpStream::connect(control).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut node, &mut control) => {}
        _ = is_open.wait_for(|is_open| !is_open) => {}
    }
}
