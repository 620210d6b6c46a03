//! What is done to the server: killed with `kill -9`, stopped for a while, killed while it is stopped.
//!
//! Owns: the order of faults, from the seed. Does not know: publishers, readers.
//! Flow: wait → a fault → a restart on the same port and folder → ready → again.

use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, sleep};

use super::http;
use super::random::Random;
use super::server::Server;
use super::world::World;

/// Does faults for so long; the server is up again afterwards.
pub(crate) async fn run(world: Rc<World>, mut server: Server, time: Duration) -> Result<Server> {
    let mut random = Random::of(world.seed, 1);
    let until = Instant::now() + time;
    while Instant::now() < until {
        sleep(random.millis(800, 4_200)).await;
        sample(&world).await;
        if random.percent(25) {
            server.freeze()?;
            world.count("stops");
            sleep(random.millis(50, 1_500)).await;
            if random.percent(70) {
                server.thaw()?;
                continue;
            }
        }
        server = restart(&world, server, random.millis(0, 400)).await?;
    }
    Ok(server)
}

/// `kill -9`, some time without a server, and a new one in its place.
pub(crate) async fn restart(world: &World, server: Server, pause: Duration) -> Result<Server> {
    let place = server.place.clone();
    server.kill()?;
    world.count("kills");
    sleep(pause).await;
    let begun = Instant::now();
    let server = Server::start(&place).await?;
    world.at_least("ms for the slowest start", u64::try_from(begun.elapsed().as_millis()).unwrap_or(0));
    Ok(server)
}

/// Looks at how many connections are behind: if none ever is, slow readers were not slow.
async fn sample(world: &World) {
    let Ok((200, metrics)) = http::ask(world.address, ("GET", "/metrics"), &world.authorization(), "").await
    else {
        return;
    };
    let behind = metrics
        .lines()
        .find_map(|line| line.strip_prefix("tidings_connections_behind ")?.trim().parse().ok());
    world.at_least("connections behind at once", behind.unwrap_or_default());
}
