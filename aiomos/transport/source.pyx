"""Sources of frames: what the engine asks of a transport that delivers frames in batches."""

cdef class FrameSource:
    """Deliver frames a batch at a time.

    The engine takes the batches; iterating over a source instead yields ``(time_ns, data, linktype, wirelen)``
    with *data* copied into a ``bytes``, which is for tests and small captures: it is some 50 times slower.

    A source is a context manager that closes itself.

    Attributes:
        frames_read: Frames delivered so far, the current batch included.
        interfaces: `Interface` records of what the frames were captured on, in the order of their index;
            grows while a source is read.
    """

    def __cinit__(self, *args, **kwargs):
        self.interfaces = []
        self.heard_by_all = True

    cpdef bint read_batch(self) except -1:
        """Make the next frames the current batch; the one before is void.

        Returns:
            False at the end. True with an empty batch is that what has come makes no frame yet: `starved` tells what
            to wait for.

        Raises:
            CaptureError: a capture cannot be read on; every frame before that place has been delivered.
        """
        raise NotImplementedError

    cdef bint deliver(self, const Frame* frames, size_t count) noexcept:
        """Make these frames, at least one, the current batch; True, as read_batch() then returns."""
        if self.frames_read == 0:
            self.first_ns = frames.time_ns
        self.frames = frames
        self.count = count
        self.frames_read += count
        return True

    def batch(self):
        """Copy the current batch.

        Returns:
            A list of ``(time_ns, data, linktype, wirelen, interface)``.
        """
        cdef const Frame* frame
        copies = []
        for i in range(self.count):
            frame = &self.frames[i]
            copies.append((
                frame.time_ns, <bytes> frame.data[:frame.caplen], frame.linktype, frame.wirelen, frame.interface,
            ))
        return copies

    def __iter__(self):
        while self.read_batch():
            for frame in self.batch():
                yield frame[:4]

    @property
    def first_time(self):
        """Time of the first frame in nanoseconds since the epoch, or None before there is one."""
        return self.first_ns if self.frames_read > 0 else None

    @property
    def unordered(self):
        """Count of frames that are earlier than the frame before them."""
        return 0

    @property
    def starved(self):
        """Descriptor to wait on, since read_batch() would wait for it; None where that cannot be told, or not now."""
        return None

    def position(self):
        """Tell how many bytes were read so far, as they lie on disk."""
        return 0

    def total(self):
        """Tell how many bytes there are to read, as they lie on disk; None where that is not known."""
        return None

    cpdef close(self):
        """Let go of files and memory; the current batch is void. May be called again."""
        self.frames = NULL
        self.count = 0

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()
