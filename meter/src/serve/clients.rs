//! Who is connected to a shared meter, and whose place a newcomer gets.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::task::AbortHandle;

/// Clients of one address at once: one host alone must not hold every place.
const CLIENTS_OF_ADDRESS_MAX: usize = 4;

/// When a client asked last.
#[derive(Debug, Clone)]
pub(super) struct Heard(Arc<Mutex<Instant>>);

impl Heard {
    pub(super) fn now() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    pub(super) fn again(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client that is connected.
#[derive(Debug)]
struct Client {
    from: IpAddr,
    heard: Heard,
    task: AbortHandle,
}

/// Everybody who is connected.
#[derive(Debug)]
pub(super) struct Clients {
    connected: Vec<Client>,
    max: usize,
}

impl Clients {
    pub(super) const fn new(max: usize) -> Self {
        Self { connected: Vec::new(), max }
    }

    /// Cuts off whom it must so that one more client, from `from`, has its place: the longest idle of that address if
    /// it has as many as it may, and the longest idle of all if there is no place left.
    pub(super) fn make_room(&mut self, from: IpAddr) {
        self.connected.retain(|client| !client.task.is_finished());
        self.shrink(CLIENTS_OF_ADDRESS_MAX, |client| client.from == from);
        self.shrink(self.max, |_| true);
    }

    pub(super) fn add(&mut self, from: IpAddr, heard: Heard, task: AbortHandle) {
        self.connected.push(Client { from, heard, task });
    }

    /// Leaves fewer than `max` of those `which` holds for.
    fn shrink(&mut self, max: usize, which: impl Fn(&Client) -> bool) {
        while self.connected.iter().filter(|client| which(client)).count() >= max.max(1) {
            let places = self.connected.iter().enumerate().filter(|(_, client)| which(client));
            let Some((place, _)) = places.min_by_key(|(_, client)| client.heard.last()) else { return };
            let client = self.connected.swap_remove(place);
            tracing::debug!(address = %client.from, "idle client cut off: the shared meter has as many as it may");
            client.task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn host(number: u8) -> IpAddr {
        IpAddr::from([192, 168, 1, number])
    }

    /// A client that last asked `idle` seconds ago.
    fn join(clients: &mut Clients, number: u8, idle: u64) {
        let heard = Heard::now();
        *heard.0.lock().unwrap() = Instant::now().checked_sub(Duration::from_secs(idle)).unwrap();
        let task = tokio::spawn(std::future::pending::<()>()).abort_handle();
        clients.make_room(host(number));
        clients.add(host(number), heard, task);
    }

    fn hosts(clients: &Clients) -> Vec<(IpAddr, u64)> {
        let mut hosts: Vec<_> =
            clients.connected.iter().map(|it| (it.from, it.heard.last().elapsed().as_secs() / 10)).collect();
        hosts.sort_unstable();
        hosts
    }

    #[tokio::test]
    async fn one_host_holds_few_places_and_leaves_the_others_to_the_rest() {
        let mut clients = Clients::new(16);
        join(&mut clients, 9, 590);
        for idle in [30, 50, 20, 40, 10, 60] {
            join(&mut clients, 1, idle);
        }
        // Of the greedy host the longest idle went; the other host, idle for longer still, kept its place.
        let left = [(host(1), 1), (host(1), 2), (host(1), 3), (host(1), 6), (host(9), 59)];
        assert_eq!(hosts(&clients), left);
    }

    #[tokio::test]
    async fn with_every_place_taken_the_longest_idle_makes_room() {
        let mut clients = Clients::new(3);
        for (number, idle) in [(1, 20), (2, 40), (3, 30), (4, 10)] {
            join(&mut clients, number, idle);
        }
        assert_eq!(hosts(&clients), [(host(1), 2), (host(3), 3), (host(4), 1)]);
    }
}
