//! Why a request is not carried out, in words for whoever sent it (problem details, RFC 9457).

/// A refusal. The detail goes to the peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Refused {
    /// HTTP status.
    pub status: u16,
    /// What it is about, one word for metrics.
    pub kind: &'static str,
    /// What is wrong and what would be right.
    pub detail: String,
    /// Seconds after which it is worth another try.
    pub retry_after: Option<u32>,
}

impl Refused {
    /// A refusal without a time to come back.
    pub fn new(status: u16, kind: &'static str, detail: impl Into<String>) -> Self {
        Self { status, kind, detail: detail.into(), retry_after: None }
    }

    /// 400: the body is not what it should be.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(400, "malformed", detail)
    }

    /// 422: understood, but not something that can be recorded.
    pub fn unacceptable(detail: impl Into<String>) -> Self {
        Self::new(422, "offer", detail)
    }

    /// 503: not now, or not here.
    pub fn busy(kind: &'static str, detail: impl Into<String>, retry_after: u32) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(503, kind, detail) }
    }

    /// What the status is called.
    pub fn title(&self) -> &'static str {
        match self.status {
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            408 => "Request Timeout",
            412 => "Precondition Failed",
            413 => "Content Too Large",
            415 => "Unsupported Media Type",
            422 => "Unprocessable Content",
            428 => "Precondition Required",
            503 => "Service Unavailable",
            _ => "Error",
        }
    }

    /// The body, `application/problem+json`.
    pub fn body(&self) -> String {
        format!(
            "{{\"type\":\"about:blank\",\"title\":\"{}\",\"status\":{},\"detail\":\"{}\"}}",
            self.title(),
            self.status,
            escaped(&self.detail)
        )
    }
}

/// As the inside of a JSON string.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if control.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_json_whatever_the_detail() {
        let body = Refused::malformed("a \"quoted\" \\ line\r\n").body();
        assert_eq!(
            body,
            "{\"type\":\"about:blank\",\"title\":\"Bad Request\",\"status\":400,\"detail\":\"a \\\"quoted\\\" \\\\ line\\u000d\\u000a\"}"
        );
    }
}
