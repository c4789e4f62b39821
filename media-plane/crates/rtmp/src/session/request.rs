//! Who wants to publish what: the names and parameters out of `connect` and `publish`.

/// Parameters kept; the rest of a longer query stays visible in [`PublishRequest::query`].
const MAX_PARAMS: usize = 64;

/// A publisher asks to publish. Names are as sent, only separated from queries and surrounding slashes; whether they
/// are acceptable is for the caller to judge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishRequest {
    /// Host of `tcUrl`, lower case, without port; empty when there is none.
    pub host: String,
    /// Application, `app` or `app/instance`.
    pub app: String,
    /// Stream name.
    pub stream: String,
    /// Query parameters of the stream name, then of `app`, then of `tcUrl`, percent-decoded, in the order sent.
    pub params: Vec<(String, String)>,
    /// The query the publisher attached, undecoded: the stream name's, else `app`'s, else `tcUrl`'s.
    pub query: String,
    /// `flashVer` of the encoder, at most 256 characters and none of them a control character.
    pub encoder: Option<String>,
    /// `tcUrl` as sent.
    pub tc_url: String,
    /// `app` as sent.
    pub raw_app: String,
    /// Stream name as sent.
    pub raw_stream: String,
}

impl PublishRequest {
    pub(super) fn new(tc_url: &str, raw_app: &str, raw_stream: &str, encoder: Option<String>) -> Self {
        let (app, app_query) = split_query(raw_app);
        let (stream, stream_query) = split_query(raw_stream);
        let (_, url_query) = split_query(tc_url);
        let mut app = app.trim_matches('/');
        let mut stream = stream.trim_matches('/');
        if app.is_empty() {
            app = path_of(tc_url);
        }
        if stream.is_empty()
            && let Some((before, last)) = app.rsplit_once('/')
        {
            // Some encoders have one field for the whole URL and put all of its path into `app`.
            (app, stream) = (before, last);
        }
        let queries = [stream_query, app_query, url_query];
        let mut params = Vec::new();
        for (place, query) in queries.iter().enumerate() {
            // Most clients repeat the query of `tcUrl` in `app`.
            if queries.iter().take(place).any(|earlier| earlier == query) {
                continue;
            }
            params.extend(parse_query(query).take(MAX_PARAMS.saturating_sub(params.len())));
        }
        Self {
            host: host_of(tc_url),
            app: app.to_owned(),
            stream: stream.to_owned(),
            params,
            query: queries.iter().find(|query| !query.is_empty()).map_or_else(String::new, |query| (*query).to_owned()),
            encoder,
            tc_url: tc_url.to_owned(),
            raw_app: raw_app.to_owned(),
            raw_stream: raw_stream.to_owned(),
        }
    }

    /// A parameter; the stream name's wins over `app`'s, and that over `tcUrl`'s.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The push domain: `?domain=`, else `?vhost=`, else the host of `tcUrl`; lower case.
    pub fn domain(&self) -> String {
        let asked = ["domain", "vhost"].into_iter().filter_map(|name| self.param(name)).find(|value| !value.is_empty());
        asked.map_or_else(|| self.host.clone(), str::to_ascii_lowercase)
    }
}

fn split_query(text: &str) -> (&str, &str) {
    text.split_once('?').unwrap_or((text, ""))
}

/// What follows the scheme of a URL, without its query.
fn after_scheme(url: &str) -> &str {
    let (url, _) = split_query(url);
    url.split_once("://").map_or(url, |(_, rest)| rest)
}

fn host_of(url: &str) -> String {
    let authority = after_scheme(url).split('/').next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    host.trim_end_matches('.').to_ascii_lowercase()
}

fn path_of(url: &str) -> &str {
    after_scheme(url).split_once('/').map_or("", |(_, path)| path).trim_matches('/')
}

/// Name and value of each parameter, percent-decoded.
fn parse_query(query: &str) -> impl Iterator<Item = (String, String)> {
    // Players append a second `?` when the name already had one.
    query.split(['&', '?']).filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (percent_decode(name), percent_decode(value))
    })
}

/// Decodes `%XX`; what is no escape, or decodes to something that is not UTF-8, stays as it is.
fn percent_decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        let escape = (*first == b'%').then(|| tail.first_chunk::<2>()).flatten().and_then(hex_byte);
        match escape {
            Some(byte) => {
                out.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => out.push(*first),
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

fn hex_byte(digits: &[u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let [high, low] = *digits;
    Some(digit(high)? << 4 | digit(low)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e1_names_and_parameters_are_separated() {
        let request = PublishRequest::new(
            "rtmp://Push.Example.com:1935/live?vhost=a.example",
            "/live/",
            "cam1?txSecret=abc&txTime=5f%2F",
            None,
        );
        assert_eq!((request.host.as_str(), request.app.as_str()), ("push.example.com", "live"));
        assert_eq!(request.stream, "cam1");
        assert_eq!(request.query, "txSecret=abc&txTime=5f%2F");
        assert_eq!(request.param("txTime"), Some("5f/"));
        assert_eq!(request.domain(), "a.example");
    }

    #[test]
    fn e1_the_query_on_app_counts_too_but_the_stream_wins() {
        let request =
            PublishRequest::new("rtmp://h/live?k=url", "live/room?k=app&x=1&domain=D.example", "s?k=name", None);
        assert_eq!(request.app, "live/room");
        assert_eq!(request.param("k"), Some("name"));
        assert_eq!(request.param("x"), Some("1"));
        assert_eq!(request.domain(), "d.example");
        assert_eq!(PublishRequest::new("rtmp://h/live?k=url", "live?k=url", "s", None).params.len(), 1);
    }

    #[test]
    fn hosts_in_every_form() {
        for (url, host) in [
            ("rtmp://10.0.0.1:1935/live", "10.0.0.1"),
            ("rtmps://[2001:db8::1]:443/live", "2001:db8::1"),
            ("rtmp://user:pw@h.example./live", "h.example"),
            ("h.example/live", "h.example"),
            ("", ""),
        ] {
            assert_eq!(host_of(url), host, "{url}");
        }
    }

    #[test]
    fn a_whole_path_in_app_gives_the_stream() {
        let request = PublishRequest::new("rtmp://h/live/cam", "live/cam", "", None);
        assert_eq!((request.app.as_str(), request.stream.as_str()), ("live", "cam"));
        assert_eq!(PublishRequest::new("rtmp://h/live", "", "x", None).app, "live");
    }

    #[test]
    fn hostile_names_are_handed_over_as_they_are() {
        let request = PublishRequest::new("rtmp://h/live", "live", "../a/%2e%2e\0", None);
        assert_eq!(request.stream, "../a/%2e%2e\0");
        assert_eq!(percent_decode("%zz%4%ff%41"), "%zz%4%ff%41", "not utf-8 when decoded");
        assert_eq!(percent_decode("a%41%"), "aA%");
        let many = format!("s?{}", "a=b&".repeat(5_000));
        assert_eq!(PublishRequest::new("", "live", &many, None).params.len(), MAX_PARAMS);
    }
}
