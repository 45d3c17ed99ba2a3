//! Connections that have not asked for anything yet: they cost a descriptor, and who they are is not known. An address has so
//! many of them at most, so that no address takes the descriptors of all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::transport::origin::network_of;

/// An address has no more of them than this part of the descriptors, where there are few.
const PART: u64 = 4;

/// The newcomers of each address (IPv6: of each /64).
#[derive(Debug)]
pub struct Newcomers {
    most: u64,
    count: Mutex<HashMap<IpAddr, u64>>,
}

/// A newcomer, until it is dropped.
#[derive(Debug)]
pub struct Newcomer {
    all: Arc<Newcomers>,
    network: IpAddr,
}

impl Newcomers {
    /// Nobody yet, and at most so many of an address (0: no bound), on a process that may have so many descriptors.
    #[must_use]
    pub fn new(most: u64, descriptors: u64) -> Arc<Newcomers> {
        let most = if most == 0 { u64::MAX } else { most.min(descriptors / PART).max(1) };
        Arc::new(Newcomers { most, count: Mutex::default() })
    }

    /// One more from this address; `None` if there are too many.
    #[must_use]
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Newcomer> {
        let network = network_of(address);
        let mut count = self.lock();
        let of_network = count.entry(network).or_default();
        if *of_network >= self.most {
            return None;
        }
        *of_network += 1;
        Some(Newcomer { all: self.clone(), network })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, u64>> {
        self.count.lock()
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        let mut count = self.all.lock();
        if let Some(of_network) = count.get_mut(&self.network) {
            *of_network -= 1;
            if *of_network == 0 {
                count.remove(&self.network);
            }
        }
        // A flood from many addresses leaves no large map behind.
        if count.is_empty() && count.capacity() > 1_024 {
            *count = HashMap::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_newcomers_and_another_has_its_own() {
        let newcomers = Newcomers::new(1_024, 16);
        let here: IpAddr = "2001:db8:1:2::1".parse().unwrap();
        let beside: IpAddr = "2001:db8:1:2:3::9".parse().unwrap();
        let elsewhere: IpAddr = "2001:db8:1:3::1".parse().unwrap();
        let mut in_house: Vec<_> = (0..4).map(|_| newcomers.admit(here).unwrap()).collect();
        assert!(newcomers.admit(here).is_none() && newcomers.admit(beside).is_none());
        assert!(newcomers.admit(elsewhere).is_some());
        // Who asks for something is none any more.
        in_house.pop();
        in_house.push(newcomers.admit(beside).unwrap());
        assert!(newcomers.admit(here).is_none());
        drop(in_house);
        assert!(newcomers.lock().is_empty());
    }

    #[test]
    fn a_process_with_few_descriptors_takes_few_and_at_least_one() {
        assert_eq!(Newcomers::new(1_024, 1_000_000).most, 1_024);
        assert_eq!(Newcomers::new(1_024, 1_024).most, 256);
        assert_eq!(Newcomers::new(1_024, 1).most, 1);
        assert_eq!(Newcomers::new(0, 1_024).most, u64::MAX);
    }
}
