//! The sockets behind WHIP, which the media of all sessions shares.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ::whip::{Endpoint, Limits, Reachable, Refused, Sessions};
use anyhow::Context;
use tokio::net::{TcpListener, UdpSocket};

use crate::config;

/// Sockets of the media of all WHIP sessions.
pub struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Sockets {
    /// Takes the configured ports, or others where these are taken: no other publisher should miss its recording because
    /// of a port that answers tell anyway.
    pub async fn bind(config: &config::Whip) -> anyhow::Result<Self> {
        let udp = match UdpSocket::bind(config.udp).await {
            Err(error) if config.udp.port() != 0 => {
                tracing::warn!(wanted = %config.udp, %error, "whip.udp is taken; another port is used");
                UdpSocket::bind(SocketAddr::new(config.udp.ip(), 0)).await
            }
            bound => bound,
        };
        let tcp = match TcpListener::bind(config.tcp).await {
            Err(error) if config.tcp.port() != 0 => {
                tracing::warn!(wanted = %config.tcp, %error, "whip.tcp is taken; another port is used");
                TcpListener::bind(SocketAddr::new(config.tcp.ip(), 0)).await
            }
            bound => bound,
        };
        Ok(Self { udp: udp.context("whip.udp")?, tcp: tcp.context("whip.tcp")? })
    }

    /// Where it listens, UDP and TCP.
    pub fn addresses(&self) -> anyhow::Result<[SocketAddr; 2]> {
        Ok([self.udp.local_addr()?, self.tcp.local_addr()?])
    }

    /// Serves them; gives the sessions and where publishers send to.
    pub fn start(self, config: &config::Whip) -> anyhow::Result<(Sessions, Reachable)> {
        let [udp, tcp] = self.addresses()?;
        let addresses = if config.advertise.is_empty() { own_addresses(udp.ip()) } else { config.advertise.clone() };
        tracing::info!(?addresses, udp = udp.port(), tcp = tcp.port(), "WebRTC publishers are sent here");
        let reachable = Reachable::new(&addresses, udp.port(), Some(tcp.port()));
        let limits = Limits {
            max_sessions: config.max_sessions,
            max_pending: config.max_sessions.div_ceil(4),
            idle_timeout: config.idle_timeout,
        };
        let endpoint = Endpoint::start(self.udp, Some(self.tcp));
        let sessions = Sessions::new(endpoint, limits).map_err(|Refused { detail, .. }| anyhow::anyhow!(detail))?;
        Ok((sessions, reachable))
    }
}

/// The address that a socket is bound to, or those of this machine when it is bound to all of them.
fn own_addresses(bound: IpAddr) -> Vec<IpAddr> {
    if !bound.is_unspecified() {
        return vec![bound];
    }
    let mut addresses = ::whip::interface_addresses(bound.is_ipv6());
    if addresses.is_empty() {
        addresses.push(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    addresses
}
