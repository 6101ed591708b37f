//! ttrpc
