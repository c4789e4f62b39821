//! Builds the library's connection for one offer, and the answer to it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rtc::ice::candidate::CandidateConfig;
use rtc::ice::candidate::candidate_host::CandidateHostConfig;
use rtc::interceptor::Slot;
use rtc::peer_connection::RTCPeerConnectionBuilder;
use rtc::peer_connection::certificate::CertificateParams;
use rtc::peer_connection::configuration::media_engine::{
    MIME_TYPE_AV1, MIME_TYPE_H264, MIME_TYPE_HEVC, MIME_TYPE_OPUS, MIME_TYPE_RTX, MIME_TYPE_VP8, MIME_TYPE_VP9,
};
use rtc::peer_connection::transport::RTCDtlsRole;
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpHeaderExtensionCapability, RtpCodecKind,
};
use rtc::sdp::extmap::{SDES_MID_URI, SDES_REPAIR_RTP_STREAM_ID_URI, SDES_RTP_STREAM_ID_URI};
use webrtc::error::Result;
use webrtc::peer_connection::crypto::{RTCCryptoProvider, SignatureScheme, default_provider};
use webrtc::peer_connection::{
    MediaEngine, RTCCertificate, RTCConfigurationBuilder, RTCIceCandidate, RTCPeerConnection, RTCSessionDescription,
    Registry, SettingEngineBuilder, configure_nack, configure_rtcp_reports, configure_twcc_receiver_only,
};

use super::deliver::DeliverReports;
use super::lite::Credentials;
use crate::codecs::{Sound, Video, VideoCodec};
use crate::offer::Offer;

/// The interceptor that is nearest to the application.
const LAST_SLOT: usize = 20_000;
/// How often the ICE agent looks at its clock. It is lite: nothing depends on it.
const ICE_TICK: Duration = Duration::from_secs(2);

/// What every connection of this process shares.
pub struct Shared {
    /// The certificate that DTLS presents; its fingerprint is in every answer.
    pub certificate: RTCCertificate,
    /// Ciphers and hashes.
    pub crypto: std::sync::Arc<dyn RTCCryptoProvider>,
}

impl Shared {
    /// A new certificate. Connections share it: a handshake proves the fingerprint, not a name.
    pub fn new() -> Result<Self> {
        let crypto = default_provider().map_err(|error| webrtc::error::Error::Crypto(error.to_string()))?;
        let parameters = CertificateParams::new(vec!["recorder".to_owned()])
            .map_err(|error| webrtc::error::Error::Crypto(error.to_string()))?;
        let certificate = RTCCertificate::generate(crypto.crypto(), SignatureScheme::EcdsaP256Sha256, parameters)?;
        Ok(Self { certificate, crypto })
    }
}

/// Connection and raw answer. `inside` stands for the shared socket.
pub fn connection(
    shared: &Shared,
    credentials: &Credentials,
    inside: SocketAddr,
    offer: &Offer,
    now: Instant,
) -> Result<(RTCPeerConnection, String)> {
    let mut media = MediaEngine::default();
    if let Some(video) = &offer.video {
        register_video(&mut media, video)?;
    }
    if let Some(sound) = &offer.sound {
        media.register_codec(opus(sound), RtpCodecKind::Audio)?;
    }
    for (uri, kind) in [
        (SDES_MID_URI, RtpCodecKind::Video),
        (SDES_RTP_STREAM_ID_URI, RtpCodecKind::Video),
        (SDES_REPAIR_RTP_STREAM_ID_URI, RtpCodecKind::Video),
        (SDES_MID_URI, RtpCodecKind::Audio),
    ] {
        media.register_header_extension(RTCRtpHeaderExtensionCapability { uri: uri.to_owned() }, kind, None)?;
    }
    // Negative acknowledgements recover what is lost; transport-wide feedback tells browsers how much they may send.
    let registry = configure_nack(Registry::new(), &mut media);
    let registry = configure_twcc_receiver_only(registry, &mut media)?;
    let registry = configure_rtcp_reports(registry).with(Slot::from(LAST_SLOT), DeliverReports::default());
    let settings = SettingEngineBuilder::new()
        .with_crypto_provider(std::sync::Arc::clone(&shared.crypto))
        .with_lite(true)
        .with_answering_dtls_role(if offer.passive { RTCDtlsRole::Client } else { RTCDtlsRole::Server })
        .with_ice_credentials(credentials.ufrag.clone(), credentials.password.clone())
        // Silence is judged by the session, which counts media as a sign of life too.
        .with_ice_timeouts(Some(Duration::ZERO), Some(Duration::ZERO), Some(ICE_TICK))
        .with_ice_connection_attempts(Some(ICE_TICK), None)
        .build();
    let configuration = RTCConfigurationBuilder::new().with_certificates(vec![shared.certificate.clone()]).build();
    let mut connection = RTCPeerConnectionBuilder::new()
        .with_configuration(configuration)
        .with_setting_engine(settings)
        .with_media_engine(media)
        .with_interceptor_registry(registry)
        .build(now)?;
    connection.set_remote_description(now, RTCSessionDescription::offer(offer.reduced.clone())?)?;
    connection.add_local_candidate(candidate(inside)?)?;
    let answer = connection.create_answer(None)?;
    connection.set_local_description(now, answer.clone())?;
    Ok((connection, answer.sdp))
}

fn candidate(address: SocketAddr) -> Result<webrtc::peer_connection::RTCIceCandidateInit> {
    let config = CandidateHostConfig {
        base_config: CandidateConfig {
            network: "udp".to_owned(),
            address: address.ip().to_string(),
            port: address.port(),
            component: 1,
            ..CandidateConfig::default()
        },
        ..CandidateHostConfig::default()
    };
    RTCIceCandidate::from(&config.new_candidate_host()?).to_json()
}

/// Exactly the codec that was chosen, under the publisher's own number: nothing else can be negotiated.
fn register_video(media: &mut MediaEngine, video: &Video) -> Result<()> {
    let feedback = |kind: &str, parameter: &str| RTCPFeedback { typ: kind.to_owned(), parameter: parameter.to_owned() };
    let mut rtcp_feedback = Vec::new();
    if video.nack {
        rtcp_feedback.push(feedback("nack", ""));
    }
    if video.pli {
        rtcp_feedback.push(feedback("nack", "pli"));
    }
    if video.fir {
        rtcp_feedback.push(feedback("ccm", "fir"));
    }
    let codec = |mime_type: &str, parameters: String, rtcp_feedback, payload_type| RTCRtpCodecParameters {
        rtp_codec: RTCRtpCodec {
            mime_type: mime_type.to_owned(),
            clock_rate: 90_000,
            channels: 0,
            sdp_fmtp_line: parameters,
            rtcp_feedback,
        },
        payload_type,
    };
    let mime_type = match video.codec {
        VideoCodec::H264 => MIME_TYPE_H264,
        VideoCodec::H265 => MIME_TYPE_HEVC,
        VideoCodec::Av1 => MIME_TYPE_AV1,
        VideoCodec::Vp9 => MIME_TYPE_VP9,
        VideoCodec::Vp8 => MIME_TYPE_VP8,
    };
    let picture = codec(mime_type, video.parameters.clone(), rtcp_feedback, video.payload_type);
    media.register_codec(picture, RtpCodecKind::Video)?;
    if let Some(payload_type) = video.retransmission {
        let again = codec(MIME_TYPE_RTX, format!("apt={}", video.payload_type), Vec::new(), payload_type);
        media.register_codec(again, RtpCodecKind::Video)?;
    }
    Ok(())
}

fn opus(sound: &Sound) -> RTCRtpCodecParameters {
    RTCRtpCodecParameters {
        rtp_codec: RTCRtpCodec {
            mime_type: MIME_TYPE_OPUS.to_owned(),
            clock_rate: 48_000,
            channels: 2,
            sdp_fmtp_line: sound.parameters.clone(),
            rtcp_feedback: Vec::new(),
        },
        payload_type: sound.payload_type,
    }
}
