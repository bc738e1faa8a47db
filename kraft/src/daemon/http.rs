//! Answers monitors over HTTP/1.1: bytes in, bytes out, no I/O.
//!
//! Just enough of RFC 9112 for Prometheus, a load balancer's probe and a person with curl: GET and HEAD, no body in a
//! request, one request a connection. The caller keeps a buffer for each connection, calls [`respond`] when bytes
//! came, sends what it returns and closes.

/// Bytes of a request, its line and headers. Prometheus sends about 300.
pub const REQUEST_BYTES_MAX: usize = 4096;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// `/metrics`: every number, as Prometheus reads it.
    Metrics,
    /// `/livez`: does the loop turn?
    Live,
    /// `/readyz`: may clients be sent here?
    Ready,
}

/// What a page says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Whether the answer to the page's question is yes: 200, or 503.
    pub is_good: bool,
    /// The body.
    pub text: String,
}

/// How far a request has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is not whole. Keep the bytes; there will be no more than [`REQUEST_BYTES_MAX`].
    NeedMore,
    /// Send this and close.
    Respond(Vec<u8>),
}

/// Answers the request at the beginning of `input`, everything that came on the connection so far. `page` is called
/// at most once, when a page is due.
pub fn respond(input: &[u8], page: impl FnOnce(Page) -> Content) -> Progress {
    // RFC 9112 §2.2: a server should ignore empty lines before the request line.
    let skipped = input.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let within = &input[..input.len().min(REQUEST_BYTES_MAX)];
    let Some(head) = within.get(skipped..).and_then(head_of) else {
        if input.len() >= REQUEST_BYTES_MAX {
            return Progress::Respond(Reply::error(431, "a request has at most 4096 bytes").bytes(true));
        }
        return Progress::NeedMore;
    };
    Progress::Respond(match Request::parse(head) {
        Ok(request) => request.reply(page).bytes(request.with_body),
        Err(reply) => reply.bytes(true),
    })
}

/// The request up to its empty line. Line ends are CRLF, or LF alone, which a person types (RFC 9112 §2.2).
fn head_of(input: &[u8]) -> Option<&[u8]> {
    let ends = input
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'\n')
        .map(|(at, _)| at + 1);
    ends.into_iter()
        .find(|at| matches!(&input[*at..], [b'\n', ..] | [b'\r', b'\n', ..]))
        .map(|at| &input[..at])
}

struct Request<'a> {
    path: &'a str,
    /// GET; a HEAD has the same headers and no body.
    with_body: bool,
}

impl<'a> Request<'a> {
    fn parse(head: &'a [u8]) -> Result<Self, Reply> {
        let malformed = |why| Reply::error(400, why);
        let head = std::str::from_utf8(head).map_err(|_| malformed("the request is not ASCII"))?;
        let mut lines = head.lines();
        let request_line = lines.next().unwrap_or_default();
        let mut parts = request_line.split(' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed("the first line is not METHOD TARGET VERSION"));
        };
        let minor = match version {
            "HTTP/1.1" => 1,
            "HTTP/1.0" => 0,
            _ if version.starts_with("HTTP/") => {
                return Err(Reply::error(505, "HTTP/1.1 and HTTP/1.0 are spoken here"));
            }
            _ => return Err(malformed("the first line is not METHOD TARGET VERSION")),
        };
        let is_token = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !is_token {
            return Err(malformed("the method is no word"));
        }
        let mut hosts = 0;
        for line in lines {
            // RFC 9112 §5.1: white space before the colon, or at the start of a line, smuggles headers.
            let Some((name, value)) = line.split_once(':').filter(|(name, _)| is_header_name(name)) else {
                return Err(malformed("a header is not NAME: VALUE"));
            };
            if name.eq_ignore_ascii_case("host") {
                hosts += 1;
            }
            let has_body = name.eq_ignore_ascii_case("transfer-encoding")
                || (name.eq_ignore_ascii_case("content-length") && value.trim() != "0");
            if has_body {
                return Err(malformed("no body is taken here"));
            }
        }
        // RFC 9112 §3.2.
        if hosts > 1 || (hosts == 0 && minor == 1) {
            return Err(malformed("there must be one Host header"));
        }
        let with_body = match method {
            "GET" => true,
            "HEAD" => false,
            _ => return Err(Reply::error(405, "GET and HEAD are answered here")),
        };
        Ok(Self {
            path: path_of(target),
            with_body,
        })
    }

    fn reply(&self, page: impl FnOnce(Page) -> Content) -> Reply {
        let which = match self.path {
            "/metrics" => Page::Metrics,
            "/livez" => Page::Live,
            "/readyz" => Page::Ready,
            _ => return Reply::error(404, "there are /metrics, /livez and /readyz"),
        };
        let Content { is_good, text } = page(which);
        Reply {
            status: if is_good { 200 } else { 503 },
            // The version of Prometheus' text format.
            content_type: match which {
                Page::Metrics => "text/plain; version=0.0.4; charset=utf-8",
                Page::Live | Page::Ready => "text/plain; charset=utf-8",
            },
            text,
        }
    }
}

fn is_header_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// The path of a target in origin form, `/metrics?x=1`, or in absolute form, `http://host/metrics`, which a server
/// must take as well (RFC 9112 §3.2.2).
fn path_of(target: &str) -> &str {
    let target = target
        .split_once("://")
        .map_or(target, |(_, rest)| rest.find('/').map_or("/", |at| &rest[at..]));
    target.split(['?', '#']).next().unwrap_or_default()
}

struct Reply {
    status: u16,
    content_type: &'static str,
    text: String,
}

impl Reply {
    fn error(status: u16, why: &str) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            text: format!("{why}\n"),
        }
    }

    fn bytes(&self, with_body: bool) -> Vec<u8> {
        let reason = match self.status {
            200 => "OK",
            400 => "Bad Request",
            404 => "Not Found",
            405 => "Method Not Allowed",
            431 => "Request Header Fields Too Large",
            503 => "Service Unavailable",
            505 => "HTTP Version Not Supported",
            status => unreachable!("no reply has status {status}"),
        };
        let allow = if self.status == 405 { "Allow: GET, HEAD\r\n" } else { "" };
        let mut bytes = format!(
            "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{allow}Cache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n",
            self.status,
            self.content_type,
            self.text.len()
        )
        .into_bytes();
        if with_body {
            bytes.extend_from_slice(self.text.as_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(which: Page) -> Content {
        Content {
            is_good: which != Page::Ready,
            text: format!("{which:?}\n"),
        }
    }

    fn answer(input: &[u8]) -> Option<String> {
        match respond(input, page) {
            Progress::NeedMore => None,
            Progress::Respond(bytes) => Some(String::from_utf8(bytes).expect("UTF-8")),
        }
    }

    /// Checks status and body, also when the request comes byte by byte.
    #[track_caller]
    fn check(input: &str, status: u16, body: &str) {
        let whole = answer(input.as_bytes()).unwrap_or_else(|| panic!("{input:?} needs more"));
        let (head, text) = whole.split_once("\r\n\r\n").expect("an empty line");
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{input:?}: {head}");
        assert!(head.contains("\r\nConnection: close"), "{head}");
        assert_eq!(text, body, "{input:?}");
        let first = (0..=input.len())
            .find_map(|end| answer(&input.as_bytes()[..end]))
            .expect("an answer");
        assert_eq!(first, whole, "{input:?}");
    }

    const HOST: &str = "Host: x\r\n\r\n";

    #[test]
    fn pages_are_found() {
        check(&format!("GET /metrics HTTP/1.1\r\n{HOST}"), 200, "Metrics\n");
        check(&format!("GET /livez?verbose HTTP/1.1\r\n{HOST}"), 200, "Live\n");
        check(&format!("GET /readyz HTTP/1.1\r\n{HOST}"), 503, "Ready\n");
        check(&format!("GET http://x:1/livez HTTP/1.1\r\n{HOST}"), 200, "Live\n");
        check("GET /livez HTTP/1.0\r\n\r\n", 200, "Live\n");
        check("GET /livez HTTP/1.0\n\n", 200, "Live\n");
        check(
            &format!("\r\n\r\nGET /livez HTTP/1.1\r\nContent-Length: 0\r\n{HOST}"),
            200,
            "Live\n",
        );
        let there = "there are /metrics, /livez and /readyz\n";
        check(&format!("GET / HTTP/1.1\r\n{HOST}"), 404, there);
        check(&format!("GET /../etc/passwd HTTP/1.1\r\n{HOST}"), 404, there);
        check(&format!("GET http://x HTTP/1.1\r\n{HOST}"), 404, there);
    }

    #[test]
    fn head_has_the_headers_and_no_body() {
        let get = answer(format!("GET /metrics HTTP/1.1\r\n{HOST}").as_bytes()).expect("an answer");
        let head = answer(format!("HEAD /metrics HTTP/1.1\r\n{HOST}").as_bytes()).expect("an answer");
        assert_eq!(get, format!("{head}Metrics\n"));
        assert!(head.contains("\r\nContent-Length: 8\r\n"), "{head}");
    }

    #[test]
    fn what_is_not_for_here_is_refused() {
        let methods = "GET and HEAD are answered here\n";
        check(&format!("POST /metrics HTTP/1.1\r\n{HOST}"), 405, methods);
        check(&format!("DELETE /metrics HTTP/1.1\r\n{HOST}"), 405, methods);
        check(
            &format!("GET /metrics HTTP/2.0\r\n{HOST}"),
            505,
            "HTTP/1.1 and HTTP/1.0 are spoken here\n",
        );
        let first = "the first line is not METHOD TARGET VERSION\n";
        check(&format!("GET  /metrics HTTP/1.1\r\n{HOST}"), 400, first);
        check(&format!("GET /metrics\r\n{HOST}"), 400, first);
        check(&format!("GET /metrics FTP\r\n{HOST}"), 400, first);
        check(
            &format!("G\tT /metrics HTTP/1.1\r\n{HOST}"),
            400,
            "the method is no word\n",
        );
        let host = "there must be one Host header\n";
        check("GET /metrics HTTP/1.1\r\n\r\n", 400, host);
        check(&format!("GET /metrics HTTP/1.1\r\nHost: y\r\n{HOST}"), 400, host);
        let header = "a header is not NAME: VALUE\n";
        check(&format!("GET /metrics HTTP/1.1\r\n folded\r\n{HOST}"), 400, header);
        check(&format!("GET /metrics HTTP/1.1\r\nHost : x\r\n{HOST}"), 400, header);
        let body = "no body is taken here\n";
        check(
            &format!("GET /metrics HTTP/1.1\r\nContent-Length: 5\r\n{HOST}"),
            400,
            body,
        );
        check(
            &format!("GET /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n{HOST}"),
            400,
            body,
        );
        assert!(
            answer(b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n")
                .expect("an answer")
                .starts_with("HTTP/1.1 400")
        );
    }

    #[test]
    fn a_request_without_end_is_bounded() {
        let mut endless = b"GET /metrics HTTP/1.1\r\nX: ".to_vec();
        endless.resize(REQUEST_BYTES_MAX - 1, b'a');
        assert_eq!(answer(&endless), None);
        endless.push(b'a');
        assert!(answer(&endless).expect("an answer").starts_with("HTTP/1.1 431 "));
        assert_eq!(answer(&[b'\n'; REQUEST_BYTES_MAX - 1]), None);
        assert!(
            answer(&[b'\n'; REQUEST_BYTES_MAX])
                .expect("an answer")
                .starts_with("HTTP/1.1 431 ")
        );
        let late = [vec![b'\n'; REQUEST_BYTES_MAX], b"GET /livez HTTP/1.0\n\n".to_vec()].concat();
        assert!(answer(&late).expect("an answer").starts_with("HTTP/1.1 431 "));
    }

    #[test]
    fn a_tls_record_is_not_a_request() {
        // A ClientHello begins 16 03 01; it never ends in an empty line unless by chance.
        let mut hello = vec![0x16, 3, 1, 2, 0];
        assert_eq!(answer(&hello), None);
        hello.extend(b"\n\r\n");
        assert!(answer(&hello).expect("an answer").starts_with("HTTP/1.1 400 "));
    }
}
