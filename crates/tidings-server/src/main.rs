//! tmp
#[tokio::main]
async fn main() {
    let hub = tidings::Hub::open(tidings::Settings::in_memory().dev(true)).unwrap();
    let l = tokio::net::TcpListener::bind("127.0.0.1:4080").await.unwrap();
    tidings::serve(l, hub.router(), &hub, async { tokio::signal::ctrl_c().await.unwrap_or_default() }).await;
    hub.close().unwrap();
}
