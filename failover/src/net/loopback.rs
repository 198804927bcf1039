//! The driver without root: addresses are there already (127/8), so "raised" means that listeners exist. No
//! announcements, no tickles; the host's addresses are never touched.
//!
//! Two nodes on one host may share a VIP with it: whoever listens, serves.

use std::net::IpAddr;

use super::{Tuple, Vip, VipError};

/// See the module.
#[derive(Debug, Default)]
pub struct LoopbackVip {
    raised: Vec<IpAddr>,
}

impl Vip for LoopbackVip {
    fn floats(&self) -> bool {
        false
    }

    fn configure(&mut self, _vip: IpAddr, _interface: Option<String>) {}

    fn unconfigure(&mut self, _vip: IpAddr) {}

    async fn clear_stale(&mut self) -> Result<Vec<IpAddr>, VipError> {
        Ok(Vec::new())
    }

    async fn forget(&mut self, _vip: IpAddr) -> Result<usize, VipError> {
        Ok(0)
    }

    async fn add(&mut self, vip: IpAddr) -> Result<(), VipError> {
        if !self.raised.contains(&vip) {
            self.raised.push(vip);
        }
        Ok(())
    }

    async fn delete(&mut self, vip: IpAddr) -> Result<bool, VipError> {
        let before = self.raised.len();
        self.raised.retain(|a| *a != vip);
        Ok(self.raised.len() < before)
    }

    async fn announce(&mut self, _vip: IpAddr) -> Result<(), VipError> {
        Ok(())
    }

    async fn tickle(&mut self, _vip: IpAddr, _tuples: &[Tuple]) -> Result<usize, VipError> {
        Ok(0)
    }
}
