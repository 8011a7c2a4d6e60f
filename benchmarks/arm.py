"""A robot arm in MuJoCo whose actions are directions of its hand, seen by a camera that is fixed.

genie record gym:arm:Arm-v0 --out videos/arm --size 128
"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import mujoco
import numpy as np

SIDE = 128
SPEED, STEPS = 0.8, 10
"""Metres per second of the hand at action 1, and simulated steps of an action."""
MODEL = """
<mujoco>
  <option timestep="0.01" integrator="implicitfast"/>
  <visual><headlight ambient=".4 .4 .4" diffuse=".5 .5 .5" specular="0 0 0"/></visual>
  <default>
    <joint damping="1" armature=".1"/>
    <default class="link"><geom type="capsule" contype="0" conaffinity="0"/></default>
  </default>
  <worldbody>
    <camera name="fixed" pos="0 0 1.3" fovy="60"/>
    <geom type="plane" size="2 2 .1" rgba=".85 .82 .75 1"/>
    <body pos="0 0 .1">
      <geom type="cylinder" size=".07 .1" rgba=".25 .25 .3 1" contype="0" conaffinity="0"/>
      <joint name="shoulder" axis="0 0 1"/>
      <geom class="link" fromto="0 0 0 .35 0 0" size=".045" rgba=".15 .35 .7 1"/>
      <body pos=".35 0 0">
        <joint name="elbow" axis="0 0 1" limited="true" range="15 165"/>
        <geom class="link" fromto="0 0 0 .3 0 0" size=".04" rgba=".8 .45 .1 1"/>
        <geom type="sphere" pos=".3 0 0" size=".06" rgba=".1 .1 .1 1"/>
        <site name="hand" pos=".3 0 0"/>
      </body>
    </body>
    <body pos=".3 .3 .05">
      <joint type="slide" axis="1 0 0" damping="4" armature="0"/>
      <joint type="slide" axis="0 1 0" damping="4" armature="0"/>
      <geom type="box" size=".06 .06 .1" mass=".2" rgba=".75 .1 .15 1"/>
    </body>
  </worldbody>
  <actuator>
    <velocity joint="shoulder" kv="20"/>
    <velocity joint="elbow" kv="20"/>
  </actuator>
</mujoco>
"""


class Arm(gymnasium.Env[np.ndarray, np.ndarray]):
    """Two links, and a box that the hand can push. An action is the velocity (x, y) of the hand."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, render_mode: str | None = "rgb_array"):
        self.render_mode = render_mode
        self.action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
        self.observation_space = gymnasium.spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8)
        self.model = mujoco.MjModel.from_xml_string(MODEL)
        self.data = mujoco.MjData(self.model)
        self.renderer = mujoco.Renderer(self.model, SIDE, SIDE)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Begins with the arm and the box anywhere."""
        super().reset(seed=seed)
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:2] = self.np_random.uniform([-np.pi, 0.6], [np.pi, 2.4])
        self.data.qpos[2:] = self.np_random.uniform(-0.8, 0.2, 2)
        mujoco.mj_forward(self.model, self.data)
        return self.render(), {}

    def step(self, action: np.ndarray) -> Any:
        """Moves the hand for a tenth of a second."""
        jacobian = np.zeros((3, self.model.nv))
        for _ in range(STEPS):
            mujoco.mj_jacSite(self.model, self.data, jacobian, None, 0)
            # Damped, because near a stretched arm small moves would want very fast joints.
            joints = jacobian[:2, :2]
            damped = joints @ joints.T + 0.01 * np.eye(2)
            self.data.ctrl[:] = joints.T @ np.linalg.solve(damped, SPEED * np.asarray(action))
            mujoco.mj_step(self.model, self.data)
        return self.render(), 0.0, False, False, {}

    def render(self) -> np.ndarray:
        """Returns the picture of the camera, u8 (128,128,3)."""
        self.renderer.update_scene(self.data, camera="fixed")
        return self.renderer.render()

    def close(self) -> None:
        """Frees the renderer."""
        self.renderer.close()


gymnasium.register("Arm-v0", entry_point=Arm, max_episode_steps=100)
