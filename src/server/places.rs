//! Places for connections. Each costs a descriptor for its whole life, and there are so many: a network has a share of them,
//! so that none takes those of all; and some are kept back, so that the watchdog, the control socket and the store have
//! theirs whatever comes over the network.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::observability::counters::Counters;
use crate::transport::socketio::engine::connection::Keeper;

/// A network has no more than this part of the descriptors, unless somebody says otherwise.
const PART: u64 = 4;
/// This part of the descriptors is kept back, within these bounds, and never more than a quarter.
const RESERVE_PART: u64 = 16;
const RESERVE: (u64, u64) = (64, 1_024);

/// How many connections there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Most {
    /// Of a network that have not asked for anything yet.
    pub newcomers: u64,
    /// Of a network.
    pub of_network: u64,
    /// Of all.
    pub all: u64,
}

impl Most {
    /// What a configuration says (0: no bound on newcomers, and a quarter of the descriptors for a network) of a process that
    /// may have so many descriptors, of which so many are in use before anybody connects.
    #[must_use]
    pub fn new(newcomers: u64, of_network: u64, descriptors: u64, in_use: u64) -> Most {
        let part = (descriptors / PART).max(1);
        let reserve = (descriptors / RESERVE_PART).clamp(RESERVE.0, RESERVE.1).min(part);
        Most {
            newcomers: if newcomers == 0 { u64::MAX } else { newcomers.min(part) },
            of_network: if of_network == 0 { part } else { of_network },
            all: descriptors.saturating_sub(reserve + in_use).max(1),
        }
    }
}

/// Why there is no place for somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPlace {
    /// Too many of their network have not asked for anything yet.
    Newcomers,
    /// Too many of their network are here.
    Network,
    /// Too few descriptors are left.
    Full,
}

#[derive(Debug, Default)]
struct OfNetwork {
    newcomers: u64,
    connections: u64,
}

#[derive(Debug, Default)]
struct Taken {
    all: u64,
    networks: HashMap<IpAddr, OfNetwork>,
}

/// The connections over the network, by where they come from (IPv6: by their /64).
#[derive(Debug)]
pub struct Places {
    most: Most,
    taken: Mutex<Taken>,
    freed: Notify,
    counters: Arc<Counters>,
}

/// The place of a connection, until it is dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    held: Mutex<Held>,
}

/// What a connection is counted as.
#[derive(Debug)]
struct Held {
    /// The network that it is counted with. That of a proxy's connection is the network of whom it asks for at the moment.
    network: Option<IpAddr>,
    is_newcomer: bool,
    /// It is the WebSocket of somebody who has signed in: they are bounded by other limits, and an office shares an address.
    is_somebodys: bool,
}

impl Places {
    /// Nobody yet.
    #[must_use]
    pub fn new(most: Most, counters: Arc<Counters>) -> Arc<Places> {
        counters.connections_limit.set(most.all);
        Arc::new(Places { most, taken: Mutex::default(), freed: Notify::new(), counters })
    }

    /// A place for a connection of a network; `None` for one of a proxy, which is not counted with the proxy's.
    ///
    /// # Errors
    /// Why there is none.
    pub fn admit(self: &Arc<Self>, network: Option<IpAddr>) -> Result<Arc<Place>, NoPlace> {
        let mut taken = self.lock();
        if taken.all >= self.most.all {
            return Err(NoPlace::Full);
        }
        if let Some(network) = network {
            self.count(&mut taken, network, true)?;
        }
        taken.all += 1;
        drop(taken);
        self.counters.connections_open.add();
        let held = Held { network, is_newcomer: network.is_some(), is_somebodys: false };
        Ok(Arc::new(Place { places: self.clone(), held: Mutex::new(held) }))
    }

    /// Waits until a connection has ended, for so long.
    pub async fn freed(&self, timeout: Duration) {
        // The caller looks again in either case.
        let _ = tokio::time::timeout(timeout, self.freed.notified()).await;
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock()
    }

    fn count(&self, taken: &mut Taken, network: IpAddr, is_newcomer: bool) -> Result<(), NoPlace> {
        let before = taken.networks.get(&network);
        if before.is_some_and(|before| before.connections >= self.most.of_network) {
            return Err(NoPlace::Network);
        }
        if is_newcomer && before.is_some_and(|before| before.newcomers >= self.most.newcomers) {
            return Err(NoPlace::Newcomers);
        }
        let of_network = taken.networks.entry(network).or_default();
        of_network.connections += 1;
        of_network.newcomers += u64::from(is_newcomer);
        Ok(())
    }

    fn forget(&self, taken: &mut Taken, network: IpAddr, was_newcomer: bool) {
        if let Some(of_network) = taken.networks.get_mut(&network) {
            of_network.connections -= 1;
            of_network.newcomers -= u64::from(was_newcomer);
            if of_network.connections == 0 {
                taken.networks.remove(&network);
            }
        }
        // A flood from many networks leaves no large map behind.
        if taken.networks.is_empty() && taken.networks.capacity() > 1_024 {
            taken.networks = HashMap::new();
        }
    }
}

impl Place {
    /// A request has come over the connection. Behind a proxy it is counted with the network of whom the proxy asks for.
    ///
    /// # Errors
    /// Too many connections and requests of that network are here.
    pub fn asked(&self, behind_proxy: Option<IpAddr>) -> Result<(), NoPlace> {
        let mut held = self.held.lock();
        if let (true, Some(network)) = (held.is_newcomer, held.network)
            && let Some(of_network) = self.places.lock().networks.get_mut(&network)
        {
            of_network.newcomers -= 1;
        }
        held.is_newcomer = false;
        if let (Some(network), None, false) = (behind_proxy, held.network, held.is_somebodys) {
            self.places.count(&mut self.places.lock(), network, false)?;
            held.network = Some(network);
        }
        Ok(())
    }

    /// A proxy has said who is behind this connection, for its whole life: it is counted with their network.
    ///
    /// # Errors
    /// There are too many of that network.
    pub fn is_of(&self, network: IpAddr) -> Result<(), NoPlace> {
        let mut held = self.held.lock();
        if held.network.is_none() {
            self.places.count(&mut self.places.lock(), network, true)?;
            (held.network, held.is_newcomer) = (Some(network), true);
        }
        Ok(())
    }

    /// The request of a proxy has its answer: its connection is nobody's until the next one.
    pub fn answered(&self) {
        self.let_go(&mut self.held.lock());
    }

    fn let_go(&self, held: &mut Held) {
        if let Some(network) = held.network.take() {
            self.places.forget(&mut self.places.lock(), network, std::mem::take(&mut held.is_newcomer));
        }
    }
}

impl Keeper for Place {
    fn signed_in(&self) {
        let mut held = self.held.lock();
        held.is_somebodys = true;
        self.let_go(&mut held);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.let_go(&mut self.held.lock());
        self.places.lock().all -= 1;
        self.places.counters.connections_open.take();
        self.places.freed.notify_one();
    }
}

/// Something that is told now and then, however often it happens.
#[derive(Debug, Default)]
pub struct NowAndThen(Mutex<Option<Instant>>);

impl NowAndThen {
    /// Whether it was told before this time began; it is told now, then.
    pub fn is_due(&self, every: Duration) -> bool {
        let mut last = self.0.lock();
        let is_due = last.is_none_or(|last| last.elapsed() >= every);
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }

    /// Whether it was told within this time.
    pub fn was_within(&self, time: Duration) -> bool {
        self.0.lock().is_some_and(|last| last.elapsed() < time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::origin::network_of;

    fn places(newcomers: u64, of_network: u64, all: u64) -> Arc<Places> {
        Places::new(Most { newcomers, of_network, all }, Arc::default())
    }

    fn net(text: &str) -> Option<IpAddr> {
        Some(network_of(text.parse().unwrap()))
    }

    #[test]
    fn a_network_has_so_many_connections_and_newcomers_and_another_has_its_own() {
        let places = places(2, 4, 100);
        let (here, beside, elsewhere) = (net("2001:db8:1:2::1"), net("2001:db8:1:2:3::9"), net("2001:db8:1:3::1"));
        let mut in_house: Vec<_> = (0..2).map(|_| places.admit(here).unwrap()).collect();
        assert_eq!(places.admit(beside).unwrap_err(), NoPlace::Newcomers);
        assert!(places.admit(elsewhere).is_ok());
        // Who asks for something is no newcomer any more, and is counted for as long as they are here.
        in_house.iter().for_each(|one| one.asked(None).unwrap());
        in_house.extend((0..2).map(|_| places.admit(beside).unwrap()));
        in_house.iter().for_each(|one| one.asked(None).unwrap());
        assert_eq!(places.admit(here).unwrap_err(), NoPlace::Network);
        // Somebody who has signed in is not counted.
        in_house[0].signed_in();
        in_house[0].asked(None).unwrap();
        in_house.push(places.admit(here).unwrap());
        assert_eq!(places.admit(here).unwrap_err(), NoPlace::Network);
        drop(in_house);
        let taken = places.lock();
        assert!(taken.networks.is_empty() && taken.all == 0);
        assert_eq!(places.counters.connections_open.get(), 0);
    }

    #[test]
    fn a_proxy_asks_for_its_clients_and_is_counted_with_them() {
        let places = places(1, 2, 5);
        let (one, other) = (net("10.0.0.1"), net("10.0.0.2"));
        let of_proxy: Vec<_> = (0..5).map(|_| places.admit(None).unwrap()).collect();
        assert_eq!(places.admit(other).unwrap_err(), NoPlace::Full);
        of_proxy[0].asked(one).unwrap();
        of_proxy[1].asked(one).unwrap();
        assert_eq!(of_proxy[2].asked(one).unwrap_err(), NoPlace::Network);
        of_proxy[2].asked(other).unwrap();
        of_proxy[1].answered();
        of_proxy[3].asked(one).unwrap();
        of_proxy[3].signed_in();
        of_proxy[4].asked(one).unwrap();
        drop(of_proxy);
        assert!(places.lock().networks.is_empty());
    }

    #[test]
    fn who_is_behind_the_connection_of_a_proxy_is_counted_as_if_they_had_connected() {
        let places = places(2, 3, 9);
        let (one, other) = (network_of("10.0.0.1".parse().unwrap()), network_of("10.0.0.2".parse().unwrap()));
        let of_proxy: Vec<_> = (0..5).map(|_| places.admit(None).unwrap()).collect();
        of_proxy[0].is_of(one).unwrap();
        of_proxy[1].is_of(one).unwrap();
        assert_eq!(of_proxy[2].is_of(one).unwrap_err(), NoPlace::Newcomers);
        of_proxy[0].asked(None).unwrap();
        of_proxy[2].is_of(one).unwrap();
        of_proxy[1].asked(None).unwrap();
        assert_eq!(of_proxy[3].is_of(one).unwrap_err(), NoPlace::Network);
        of_proxy[3].is_of(other).unwrap();
        drop(of_proxy);
        let taken = places.lock();
        assert!(taken.networks.is_empty() && taken.all == 0);
    }

    #[test]
    fn some_descriptors_are_kept_back() {
        let usual = Most { newcomers: 256, of_network: 256, all: 1_024 - 64 - 24 };
        assert_eq!(Most::new(4_096, 0, 1_024, 24), usual);
        let large = Most { newcomers: u64::MAX, of_network: 50, all: 65_536 - 1_024 - 24 };
        assert_eq!(Most::new(0, 50, 65_536, 24), large);
        assert_eq!(Most::new(4_096, 0, 64, 24), Most { newcomers: 16, of_network: 16, all: 24 });
        assert_eq!(Most::new(4_096, 0, 1, 24).all, 1);
    }
}
