use std::sync::atomic::AtomicUsize;

use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// An application that answers everything alike, and remembers what it was asked.
struct Application {
    url: Uri,
    asked: Arc<AtomicUsize>,
    questions: Arc<Mutex<Vec<String>>>,
    answer: Arc<Mutex<String>>,
}

async fn application() -> Application {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/auth", listener.local_addr().unwrap()).parse().unwrap();
    let application =
        Application { url, asked: Arc::default(), questions: Arc::default(), answer: Arc::default() };
    let (asked, questions, answer) =
        (Arc::clone(&application.asked), Arc::clone(&application.questions), Arc::clone(&application.answer));
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let (asked, questions, answer) =
                (Arc::clone(&asked), Arc::clone(&questions), Arc::clone(&answer));
            tokio::spawn(async move {
                let mut head = Vec::new();
                let mut bytes = [0; 4_096];
                while let Ok(read @ 1..) = socket.read(&mut bytes).await {
                    head.extend_from_slice(&bytes[..read]);
                    if !head.ends_with(b"\r\n\r\n") {
                        continue;
                    }
                    asked.fetch_add(1, Ordering::SeqCst);
                    questions.lock().unwrap().push(String::from_utf8(std::mem::take(&mut head)).unwrap());
                    // Long enough for others to come meanwhile.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    let answer = answer.lock().unwrap().clone();
                    if answer.is_empty() {
                        std::future::pending::<()>().await;
                    }
                    socket.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    application
}

impl Application {
    fn says(&self, head: &str, body: &str) {
        *self.answer.lock().unwrap() =
            format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn forward(&self, kept_for: Duration) -> Arc<Forward> {
        self.patient_forward(kept_for, Duration::from_millis(500))
    }

    fn patient_forward(&self, kept_for: Duration, limit: Duration) -> Arc<Forward> {
        let fetch = Fetch::new(&self.url, 4, limit).unwrap();
        Forward::new(self.url.clone(), fetch, kept_for, Vec::new())
    }
}

fn request(headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::get("/events?channel=a").header("host", "app.example");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

async fn judge(forward: &Forward, headers: &[(&str, &str)]) -> Result<Authorized, AuthError> {
    forward.judge(&request(headers)).await
}

const KEPT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn ten_thousand_requests_of_a_hundred_subjects_ask_a_hundred_times() {
    let application = application().await;
    application.says("200 OK", r#"{"sub":"42","subscribe":["orders:*"]}"#);
    let forward = application.patient_forward(KEPT, Duration::from_secs(60));
    let tasks: Vec<_> = (0..10_000)
        .map(|n| {
            let forward = Arc::clone(&forward);
            tokio::spawn(async move {
                let cookie = format!("session={}", n % 100);
                judge(&forward, &[("cookie", &cookie)]).await.unwrap()
            })
        })
        .collect();
    let (mut renewals, mut streams) = (std::collections::HashSet::new(), Vec::new());
    for task in tasks {
        let authorized = task.await.unwrap();
        assert!(authorized.is_ambient);
        let (_, renew) = authorized.renewal.clone().unwrap();
        renewals.insert(Arc::as_ptr(&renew).cast::<()>().addr());
        streams.push(renew);
    }
    assert_eq!(application.asked(), 100);
    assert_eq!(renewals.len(), 100, "streams with the same credentials share who renews them");
}

#[tokio::test]
async fn what_the_application_is_told() {
    let application = application().await;
    application.says("200 OK", r#"{"sub":"42"}"#);
    let forward = application.forward(KEPT);
    let headers = [
        ("cookie", "session=1"),
        ("cookie", "theme=dark"),
        ("origin", "https://app.example"),
        ("authorization", "Bearer x"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x-forwarded-host", "evil.example"),
        ("x-other", "secret"),
        ("last-event-id", "k-1"),
    ];
    judge(&forward, &headers).await.unwrap();
    let question = application.questions.lock().unwrap()[0].to_ascii_lowercase();
    for line in [
        "get /auth http/1.1\r\n",
        "cookie: session=1; theme=dark\r\n",
        "authorization: bearer x\r\n",
        "origin: https://app.example\r\n",
        "x-forwarded-host: app.example\r\n",
        "x-forwarded-proto: http\r\n",
        "x-forwarded-method: get\r\n",
        "x-forwarded-uri: /events?channel=a\r\n",
    ] {
        assert!(question.contains(line), "{line} is not in {question}");
    }
    for other in ["evil", "1.2.3.4", "x-other", "last-event-id"] {
        assert!(!question.contains(other), "{other} is in {question}");
    }
}

#[tokio::test]
async fn every_answer_has_its_meaning() {
    let application = application().await;
    let over = r#"{"sub":"42","exp":1}"#;
    for (head, body, code) in [
        ("200 OK", r#"{"sub":"42"}"#, ""),
        ("200 OK", r"{}", ""),
        ("401 No", "", "unauthorized"),
        ("403 No", "", "unauthorized"),
        ("200 OK", over, "unauthorized"),
        ("200 OK", "", "auth_unavailable"),
        ("200 OK", "<html>", "auth_unavailable"),
        ("200 OK", r#"{"sub":"4 2"}"#, "auth_unavailable"),
        ("200 OK", r#"{"sub":"42","subscribe":["a*b"]}"#, "auth_unavailable"),
        ("200 OK", r#"{"sub":"42","subscribed":["a"]}"#, "auth_unavailable"),
        ("204 No", "", "auth_unavailable"),
        ("302 Found\r\nlocation: /login", "", "auth_unavailable"),
        ("404 No", r#"{"sub":"42"}"#, "auth_unavailable"),
        ("500 Oh", r#"{"sub":"42"}"#, "auth_unavailable"),
    ] {
        application.says(head, body);
        let judged = judge(&application.forward(KEPT), &[("cookie", "session=1")]).await;
        assert_eq!(judged.as_ref().map_or_else(AuthError::code, |_| ""), code, "{head} {body}");
    }
    let long = format!(r#"{{"sub":"42"{}}}"#, " ".repeat(BYTES_MAX));
    application.says("200 OK", &long);
    let judged = judge(&application.forward(KEPT), &[("cookie", "session=1")]).await;
    assert_eq!(judged.unwrap_err().code(), "auth_unavailable");
}

#[tokio::test]
async fn an_application_that_does_not_answer_is_asked_once_for_all_who_wait() {
    let application = application().await;
    let forward = application.forward(KEPT);
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let forward = Arc::clone(&forward);
            tokio::spawn(async move { judge(&forward, &[("cookie", "session=1")]).await.map(drop) })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap().unwrap_err().code(), "auth_unavailable");
    }
    assert_eq!(application.asked(), 1);
}

#[tokio::test]
async fn other_credentials_another_page_and_another_host_are_other_questions() {
    let application = application().await;
    application.says("200 OK", r#"{"sub":"42"}"#);
    let forward = application.forward(KEPT);
    let questions: [&[(&str, &str)]; 9] = [
        &[("cookie", "1"), ("cookie", "2"), ("cookie", "3"), ("cookie", "4"), ("authorization", "0")],
        &[("cookie", "1"), ("cookie", "2"), ("cookie", "3"), ("cookie", "4"), ("cookie", "1")],
        &[("cookie", "ab")],
        &[("cookie", "a"), ("cookie", "b")],
        &[("cookie", "a"), ("authorization", "Basic b")],
        &[("authorization", "Basic ab")],
        &[("cookie", "ab"), ("origin", "https://evil.example")],
        &[("cookie", "ab"), ("x-forwarded-host", "evil.example")],
        &[("cookie", "a")],
    ];
    for (n, headers) in questions.iter().enumerate() {
        judge(&forward, headers).await.unwrap();
        judge(&forward, headers).await.unwrap();
        assert_eq!(application.asked(), n + 1, "{headers:?}");
    }
}

#[tokio::test]
async fn what_is_revoked_is_asked_for_again_and_nothing_else() {
    let application = application().await;
    let forward = application.forward(KEPT);
    application.says("200 OK", r#"{"sub":"42","session":"s-1"}"#);
    judge(&forward, &[("cookie", "one")]).await.unwrap();
    application.says("200 OK", r#"{"sub":"43","session":"s-2"}"#);
    judge(&forward, &[("cookie", "two")]).await.unwrap();
    forward.forget(&Revoked::Session("s-1".into()));
    forward.forget(&Revoked::Subject("44".into()));
    application.says("401 No", "");
    assert_eq!(judge(&forward, &[("cookie", "one")]).await.unwrap_err(), AuthError::Unauthorized);
    assert!(judge(&forward, &[("cookie", "two")]).await.is_ok());
    forward.forget(&Revoked::Subject("43".into()));
    assert_eq!(judge(&forward, &[("cookie", "two")]).await.unwrap_err(), AuthError::Unauthorized);
}

#[tokio::test]
async fn an_answer_to_a_question_from_before_a_revocation_is_not_kept() {
    let application = application().await;
    let forward = application.forward(KEPT);
    application.says("200 OK", r#"{"sub":"42"}"#);
    let asking = tokio::spawn({
        let forward = Arc::clone(&forward);
        async move { judge(&forward, &[("cookie", "one")]).await.map(drop) }
    });
    while application.asked() == 0 {
        tokio::task::yield_now().await;
    }
    forward.forget(&Revoked::Subject("42".into()));
    asking.await.unwrap().unwrap();
    judge(&forward, &[("cookie", "one")]).await.unwrap();
    assert_eq!(application.asked(), 2);
}

#[tokio::test]
async fn a_renewal_asks_again_and_new_streams_hear_of_its_answer() {
    let application = application().await;
    let forward = application.forward(KEPT);
    application.says("200 OK", r#"{"sub":"42","subscribe":["a"]}"#);
    let first = judge(&forward, &[("cookie", "one")]).await.unwrap();
    application.says("200 OK", r#"{"sub":"42","subscribe":["b"]}"#);
    let (until_ms, renew) = first.renewal.clone().unwrap();
    let second = renew.renew().await.unwrap();
    assert!(second.is_ambient);
    let (later_ms, same) = second.renewal.clone().unwrap();
    assert!(later_ms >= until_ms && Arc::ptr_eq(&same, &renew));
    assert_ne!(second.grant.subscribe, first.grant.subscribe);
    assert_eq!(judge(&forward, &[("cookie", "one")]).await.unwrap().grant, second.grant);
    // While the application is away, what it said before holds for its time.
    application.says("500 Oh", "");
    assert_eq!(renew.renew().await.unwrap_err().code(), "auth_unavailable");
    assert_eq!(judge(&forward, &[("cookie", "one")]).await.unwrap().grant, second.grant);
    application.says("401 No", "");
    assert_eq!(renew.renew().await.unwrap_err(), AuthError::Unauthorized);
    assert_eq!(judge(&forward, &[("cookie", "one")]).await.unwrap_err(), AuthError::Unauthorized);
    assert_eq!(application.asked(), 4);
}

#[test]
fn an_answer_may_say_how_long_it_is_kept() {
    let read = |text: &str| max_age(&[(CACHE_CONTROL, text.parse().unwrap())].into_iter().collect());
    assert_eq!(read("private, max-age=5"), Some(Duration::from_secs(5)));
    assert_eq!(read("Max-Age=5, no-store"), Some(Duration::ZERO));
    assert_eq!(read("private"), None);
    assert_eq!(max_age(&HeaderMap::new()), None);
}
