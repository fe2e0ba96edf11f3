//! The zlib interface that `flate2` expects of `libz-ng-sys`, served by zlib-rs.
//!
//! Pingora asks `flate2` for its zlib-ng backend, whose `-sys` crate compiles C with CMake. A fresh machine with
//! Rust has no CMake, and the edge must build there with one command. zlib-rs has the same interface in Rust.
//! When Pingora offers a choice of backend, this crate can go.
#![allow(non_snake_case, non_camel_case_types, clippy::missing_safety_doc)]

use std::ffi::{c_char, c_int, c_uint, c_ulong, c_void};

pub use libz_rs_sys::{
    Z_BLOCK, Z_BUF_ERROR, Z_DATA_ERROR, Z_DEFAULT_STRATEGY, Z_DEFLATED, Z_FINISH, Z_FULL_FLUSH, Z_MEM_ERROR,
    Z_NEED_DICT, Z_NO_FLUSH, Z_OK, Z_PARTIAL_FLUSH, Z_STREAM_END, Z_STREAM_ERROR, Z_SYNC_FLUSH, uInt, uLong,
    zlibVersion,
};

/// zlib's `z_stream`, with the allocator functions declared as `flate2` fills them in: always present.
#[repr(C)]
pub struct z_stream {
    pub next_in: *mut u8,
    pub avail_in: c_uint,
    pub total_in: c_ulong,
    pub next_out: *mut u8,
    pub avail_out: c_uint,
    pub total_out: c_ulong,
    pub msg: *mut c_char,
    pub state: *mut c_void,
    pub zalloc: extern "C" fn(*mut c_void, c_uint, c_uint) -> *mut c_void,
    pub zfree: extern "C" fn(*mut c_void, *mut c_void),
    pub opaque: *mut c_void,
    pub data_type: c_int,
    pub adler: c_ulong,
    pub reserved: c_ulong,
}

// The casts below rest on this: `Option<fn>` and `fn` share a layout, and so do the two structs.
const _: () = assert!(size_of::<z_stream>() == size_of::<libz_rs_sys::z_stream>());

/// Forwards zlib functions of `flate2`'s stream type to those of zlib-rs.
macro_rules! forward {
    ($(fn $name:ident($($argument:ident: $type:ty),*);)*) => {$(
        /// As in zlib's manual.
        ///
        /// # Safety
        /// `stream` must be valid for zlib, as the function of that name in zlib's manual asks.
        pub unsafe extern "C" fn $name(stream: *mut z_stream $(, $argument: $type)*) -> c_int {
            // SAFETY: the caller's promise, passed on; the layouts are the same.
            unsafe { libz_rs_sys::$name(stream.cast() $(, $argument)*) }
        }
    )*};
}

forward! {
    fn deflateInit2_(level: c_int, method: c_int, bits: c_int, memory: c_int, strategy: c_int, version: *const c_char, size: c_int);
    fn deflate(flush: c_int);
    fn deflateEnd();
    fn deflateReset();
    fn deflateParams(level: c_int, strategy: c_int);
    fn deflateSetDictionary(dictionary: *const u8, length: c_uint);
    fn inflateInit2_(bits: c_int, version: *const c_char, size: c_int);
    fn inflate(flush: c_int);
    fn inflateEnd();
    fn inflateReset2(bits: c_int);
    fn inflateSetDictionary(dictionary: *const u8, length: c_uint);
}
