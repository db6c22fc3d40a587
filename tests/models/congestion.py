"""CUBIC by the equations of RFC 9438, and HyStart++ by the words of RFC 9406, in floating point."""

from dataclasses import dataclass, field, replace
from math import inf

C = 0.4
BETA = 0.7
ALPHA = 3 * (1 - BETA) / (1 + BETA)


@dataclass
class CubicModel:
    """Congestion avoidance; slow start and recovery are somebody else's, who set `cwnd`. Seconds and segments."""

    cwnd: float = 10.0
    w_max: float | None = None
    """None: cwnd at the beginning of the next stage of congestion avoidance."""
    k: float = 0.0
    w_est: float = 0.0
    cwnd_prior: float | None = None
    t: float | None = None
    """None: that stage has not begun."""
    undo: "CubicModel | None" = None

    def acked(self, segments: int, elapsed: float, rtt: float) -> None:
        """An ACK of new data while cwnd is all used, so long after the last one."""
        if self.t is None:
            self.begin()
        else:
            self.t += elapsed
        assert self.t is not None
        assert self.cwnd_prior is not None
        alpha = 1.0 if self.w_est >= self.cwnd_prior else ALPHA
        self.w_est += alpha * segments / self.cwnd
        if self.w_cubic(self.t) < self.w_est:
            self.cwnd = max(self.cwnd, self.w_est)
            return
        target = max(self.cwnd, min(self.w_cubic(self.t + rtt), 1.5 * self.cwnd))
        self.cwnd = min(target, self.cwnd + segments * (target - self.cwnd) / self.cwnd)

    def begin(self) -> None:
        self.t, self.w_est = 0.0, self.cwnd
        if self.cwnd_prior is None:
            self.cwnd_prior = self.cwnd
        if self.w_max is None or self.w_max <= self.cwnd:
            self.w_max, self.k = self.cwnd, 0.0
        else:
            self.k = ((self.w_max - self.cwnd) / C) ** (1 / 3)

    def w_cubic(self, t: float) -> float:
        assert self.w_max is not None
        return float(C * (t - self.k) ** 3 + self.w_max)

    def reduce(self, cause: str) -> float:
        """Return what ssthresh and cwnd fall to; in congestion avoidance."""
        self.undo = replace(self, undo=None)
        if cause == "timeout":
            self.w_max = None
        elif self.w_max is not None and self.cwnd < self.w_max:
            self.w_max = self.cwnd * (1 + BETA) / 2
        else:
            self.w_max = self.cwnd
        self.cwnd_prior, self.t = self.cwnd, None
        return max(self.cwnd * (0.8 if cause == "ecn" else BETA), 2)


@dataclass
class HyStartModel:
    """Rounds by counting: each ACK tells whether it ends one."""

    last: float = inf
    current: float = inf
    baseline: float = inf
    samples: int = 0
    css_rounds: int = 0
    css: bool = False
    over: bool = False
    history: list[str] = field(default_factory=list)

    def acked(self, rtt: float | None, *, ends_round: bool) -> None:
        """An ACK with its sample, in seconds."""
        if rtt is not None:
            self.current = min(self.current, rtt)
            self.samples += 1
            if self.samples >= 8:
                self.check()
        if ends_round:
            self.last, self.current, self.samples = self.current, inf, 0
            if self.css:
                self.css_rounds += 1
                self.over = self.css_rounds >= 5

    def check(self) -> None:
        if self.css:
            if self.current < self.baseline:
                self.css, self.baseline = False, inf
                self.css_rounds = 0
        elif self.last != inf and self.current >= self.last + max(0.004, min(self.last / 8, 0.016)):
            self.css, self.baseline, self.css_rounds = True, self.current, 0
