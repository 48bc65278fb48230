;; WASI 0.1 for Go, on as little of WASI 0.2 as its runtime needs. See adapter.rs.
(module
  (import "wasi:cli/stderr@0.2.6" "get-stderr" (func $get_stderr (result i32)))
  (import "wasi:io/streams@0.2.6" "[method]output-stream.blocking-write-and-flush"
    (func $write (param i32 i32 i32 i32)))
  (import "wasi:io/streams@0.2.6" "[resource-drop]output-stream" (func $drop_stream (param i32)))
  (import "wasi:io/poll@0.2.6" "[method]pollable.block" (func $block (param i32)))
  (import "wasi:io/poll@0.2.6" "[resource-drop]pollable" (func $drop_pollable (param i32)))
  (import "wasi:clocks/wall-clock@0.2.6" "now" (func $wall_now (param i32)))
  (import "wasi:clocks/monotonic-clock@0.2.6" "now" (func $monotonic_now (result i64)))
  (import "wasi:clocks/monotonic-clock@0.2.6" "subscribe-instant" (func $subscribe_instant (param i64) (result i32)))
  (import "wasi:clocks/monotonic-clock@0.2.6" "subscribe-duration" (func $subscribe_duration (param i64) (result i32)))
  (import "wasi:random/random@0.2.6" "get-random-u64" (func $random (result i64)))
  (import "__main_module__" "cabi_realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
  (import "env" "memory" (memory 0))

  ;; 16 bytes of the module's memory, where imports leave their results.
  (global $area (mut i32) (i32.const 0))
  ;; While the clock is paused (the host is placing arguments, and nothing may be imported), it shows what it last did.
  (global $paused (mut i32) (i32.const 0))
  (global $last_monotonic (mut i64) (i64.const 0))
  (global $last_wall (mut i64) (i64.const 0))

  ;; Every function that needs the area asks for it first thing. The first to do so is `random_get`, at the start of Go's
  ;; runtime: memory given out that early is never taken back.
  (func $area (result i32)
    (if (i32.eqz (global.get $area))
      (then (global.set $area (call $realloc (i32.const 0) (i32.const 0) (i32.const 8) (i32.const 16)))))
    (global.get $area))

  (func (export "adapter_monotonic_clock_set_paused") (param $paused i32)
    (global.set $paused (local.get $paused)))

  (func (export "sched_yield") (result i32) (i32.const 0))

  ;; Whoever exits has failed: the message has been written, and the host is to see a trap.
  (func (export "proc_exit") (param i32) (unreachable))

  ;; No arguments and no environment.
  (func $nothing (param $count i32) (param $bytes i32) (result i32)
    (i32.store (local.get $count) (i32.const 0))
    (i32.store (local.get $bytes) (i32.const 0))
    (i32.const 0))
  (export "args_sizes_get" (func $nothing))
  (export "environ_sizes_get" (func $nothing))
  (func $none (param i32 i32) (result i32) (i32.const 0))
  (export "args_get" (func $none))
  (export "environ_get" (func $none))

  (func (export "clock_time_get") (param $clock i32) (param i64) (param $time i32) (result i32)
    (local $area i32)
    (if (i32.eqz (local.get $clock))
      (then
        (if (i32.eqz (global.get $paused))
          (then
            (local.set $area (call $area))
            (call $wall_now (local.get $area))
            (global.set $last_wall
              (i64.add
                (i64.mul (i64.load (local.get $area)) (i64.const 1_000_000_000))
                (i64.load32_u offset=8 (local.get $area))))))
        (i64.store (local.get $time) (global.get $last_wall)))
      (else
        (if (i32.eqz (global.get $paused))
          (then (global.set $last_monotonic (call $monotonic_now))))
        (i64.store (local.get $time) (global.get $last_monotonic))))
    (i32.const 0))

  (func (export "random_get") (param $at i32) (param $length i32) (result i32)
    (local $bits i64) (local $left i32)
    (drop (call $area))
    (loop $bytes
      (if (local.get $length)
        (then
          (if (i32.eqz (local.get $left))
            (then (local.set $bits (call $random)) (local.set $left (i32.const 8))))
          (i64.store8 (local.get $at) (local.get $bits))
          (local.set $bits (i64.shr_u (local.get $bits) (i64.const 8)))
          (local.set $left (i32.sub (local.get $left) (i32.const 1)))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (local.set $length (i32.sub (local.get $length) (i32.const 1)))
          (br $bytes))))
    (i32.const 0))

  ;; Standard output and standard error are one: the host's log.
  (func (export "fd_write") (param $fd i32) (param $vectors i32) (param $count i32) (param $written i32) (result i32)
    (local $area i32) (local $stream i32) (local $at i32) (local $length i32) (local $piece i32) (local $total i32)
    (if (i32.gt_u (i32.sub (local.get $fd) (i32.const 1)) (i32.const 1))
      (then (return (i32.const 8)))) ;; EBADF
    (local.set $area (call $area))
    (local.set $stream (call $get_stderr))
    (block $closed
      (loop $each
        (if (local.get $count)
          (then
            (local.set $at (i32.load (local.get $vectors)))
            (local.set $length (i32.load offset=4 (local.get $vectors)))
            (loop $pieces
              (if (local.get $length)
                (then
                  ;; One call takes 4096 bytes.
                  (local.set $piece (select (i32.const 4096) (local.get $length)
                    (i32.gt_u (local.get $length) (i32.const 4096))))
                  (call $write (local.get $stream) (local.get $at) (local.get $piece) (local.get $area))
                  (br_if $closed (i32.load8_u (local.get $area)))
                  (local.set $total (i32.add (local.get $total) (local.get $piece)))
                  (local.set $at (i32.add (local.get $at) (local.get $piece)))
                  (local.set $length (i32.sub (local.get $length) (local.get $piece)))
                  (br $pieces))))
            (local.set $vectors (i32.add (local.get $vectors) (i32.const 8)))
            (local.set $count (i32.sub (local.get $count) (i32.const 1)))
            (br $each))))
      (call $drop_stream (local.get $stream))
      (i32.store (local.get $written) (local.get $total))
      (return (i32.const 0)))
    (call $drop_stream (local.get $stream))
    (i32.const 29)) ;; EIO

  ;; Sleeping: one subscription, to a clock. There are no descriptors to wait for.
  (func (export "poll_oneoff") (param $in i32) (param $out i32) (param $count i32) (param $events i32) (result i32)
    (local $pollable i32)
    (if (i32.or
          (i32.ne (local.get $count) (i32.const 1))
          (i32.load8_u offset=8 (local.get $in)))
      (then (return (i32.const 58)))) ;; ENOTSUP
    (if (i32.and (i32.load16_u offset=40 (local.get $in)) (i32.const 1))
      (then
        ;; A point in time: of the monotonic clock, which is the one that Go's runtime sleeps by.
        (if (i32.ne (i32.load offset=16 (local.get $in)) (i32.const 1))
          (then (return (i32.const 58))))
        (local.set $pollable (call $subscribe_instant (i64.load offset=24 (local.get $in)))))
      (else
        (local.set $pollable (call $subscribe_duration (i64.load offset=24 (local.get $in))))))
    (call $block (local.get $pollable))
    (call $drop_pollable (local.get $pollable))
    (i64.store (local.get $out) (i64.load (local.get $in)))
    (i32.store offset=8 (local.get $out) (i32.const 0))
    (i32.store (local.get $events) (i32.const 1))
    (i32.const 0))

  ;; There are no other descriptors than the three, nothing to read from them, and no files: EBADF, for everything that
  ;; takes a descriptor. Go finds no preopened folders this way, and says "no such file" for every path.
  (func $bad_1 (param i32) (result i32) (i32.const 8))
  (func $bad_2 (param i32 i32) (result i32) (i32.const 8))
  (func $bad_3 (param i32 i32 i32) (result i32) (i32.const 8))
  (func $bad_4 (param i32 i32 i32 i32) (result i32) (i32.const 8))
  (func $bad_5 (param i32 i32 i32 i32 i32) (result i32) (i32.const 8))
  (func $bad_6 (param i32 i32 i32 i32 i32 i32) (result i32) (i32.const 8))
  (func $bad_7 (param i32 i32 i32 i32 i32 i32 i32) (result i32) (i32.const 8))
  (func $bad_size (param i32 i64) (result i32) (i32.const 8))
  (func $bad_seek (param i32 i64 i32 i32) (result i32) (i32.const 8))
  (func $bad_at (param i32 i32 i32 i64 i32) (result i32) (i32.const 8))
  (func $bad_times (param i32 i32 i32 i32 i64 i64 i32) (result i32) (i32.const 8))
  (func $bad_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32) (i32.const 8))
  (export "fd_close" (func $bad_1))
  (export "fd_sync" (func $bad_1))
  (export "fd_fdstat_get" (func $bad_2))
  (export "fd_fdstat_set_flags" (func $bad_2))
  (export "fd_filestat_get" (func $bad_2))
  (export "fd_prestat_get" (func $bad_2))
  (export "sock_shutdown" (func $bad_2))
  (export "fd_prestat_dir_name" (func $bad_3))
  (export "path_create_directory" (func $bad_3))
  (export "path_remove_directory" (func $bad_3))
  (export "path_unlink_file" (func $bad_3))
  (export "sock_accept" (func $bad_3))
  (export "fd_read" (func $bad_4))
  (export "path_filestat_get" (func $bad_5))
  (export "path_symlink" (func $bad_5))
  (export "path_readlink" (func $bad_6))
  (export "path_rename" (func $bad_6))
  (export "path_link" (func $bad_7))
  (export "fd_filestat_set_size" (func $bad_size))
  (export "fd_seek" (func $bad_seek))
  (export "fd_pread" (func $bad_at))
  (export "fd_pwrite" (func $bad_at))
  (export "fd_readdir" (func $bad_at))
  (export "path_filestat_set_times" (func $bad_times))
  (export "path_open" (func $bad_open))
)
